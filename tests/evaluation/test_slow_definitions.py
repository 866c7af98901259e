"""LVIS and Cityscapes against slow, independent readings of their definitions, on random cases."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from detectron2.evaluation import CityscapesInstanceEvaluator, CityscapesSemSegEvaluator, LVISEvaluator
from detectron2.evaluation.cityscapes import scores as city
from detectron2.evaluation.lvis import evaluator as lvis_evaluation
from detectron2.evaluation.sem_seg_evaluation import boundary_levels
from detectron2.structures import Boxes, Instances

# ------------------------------------------------------------------ LVIS

SIDE = 160
AREAS = {"": (0, 1e10), "s": (0, 32**2), "m": (32**2, 96**2), "l": (96**2, 1e10)}
CLASSES = 6


def iou(a, b):
    """IoU of two XYWH boxes."""
    w = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    h = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    if w <= 0 or h <= 0:
        return 0.0
    return w * h / (a[2] * a[3] + b[2] * b[3] - w * h)


def slow_match(objects, found, threshold, area, lenient):
    """(score, right or None for ignored) of each detection, best first, and the number of objects to be found."""
    low, high = area
    asked = [low <= o["area"] <= high for o in objects]
    taken = [False] * len(objects)
    judged = []
    for score, box in sorted(found, key=lambda d: -d[0]):
        # an object that is asked for comes before any other
        for wanted in (True, False):
            best, which = threshold, None
            for k, o in enumerate(objects):
                if asked[k] is wanted and not taken[k]:
                    overlap = iou(box, o["bbox"])
                    if overlap >= best:
                        best, which = overlap, k
            if which is not None:
                break
        if which is not None:
            taken[which] = True
            judged.append((score, True if asked[which] else None))
        else:
            outside = not low <= box[2] * box[3] <= high
            judged.append((score, None if outside or lenient else False))
    return judged, sum(asked)


def slow_ap(judged, positives):
    """Mean over 101 recalls of the best precision at that recall or beyond."""
    kept = [right for score, right in sorted(judged, key=lambda j: -j[0]) if right is not None]
    hits = 0
    points = []
    for k, right in enumerate(kept, start=1):
        hits += right
        points.append((hits / positives, hits / k))
    return np.mean(
        [max([p for r, p in points if r >= t - 1e-12], default=0.0) for t in np.linspace(0, 1, 101)]
    )


def slow_lvis(content, found, cap, per_class=None):
    """LVIS's figures of ``found``: image -> [(score, category, XYWH)]."""
    capped = {}
    for image, rows in found.items():
        order = sorted(range(len(rows)), key=lambda k: -rows[k][0])
        capped[image] = [rows[k] for k in order[:cap]]
    if per_class is not None:
        best = {}
        for image in sorted(capped):
            for score, category, _ in found[image]:
                best.setdefault(category, []).append(score)
        cut = {c: sorted(s, reverse=True)[:per_class][-1] for c, s in best.items()}
        capped = {i: [r for r in rows if r[0] >= cut[r[1]]] for i, rows in found.items()}  # scores differ
    table = {}
    for category in content["categories"]:
        c = category["id"]
        for name, area in AREAS.items():
            for t in np.arange(0.5, 1.0, 0.05):
                judged, positives = [], 0
                for image in content["images"]:
                    objects = [
                        a
                        for a in content["annotations"]
                        if (a["image_id"], a["category_id"]) == (image["id"], c)
                    ]
                    if not objects and c not in image["neg_category_ids"]:
                        continue  # nobody looked for this class here
                    own = [(s, box) for s, k, box in capped[image["id"]] if k == c]
                    part, n = slow_match(objects, own, t, area, c in image["not_exhaustive_category_ids"])
                    judged += part
                    positives += n
                if positives:
                    table[c, name, round(t, 2)] = slow_ap(judged, positives)
    frequency = {c["id"]: c["frequency"] for c in content["categories"]}

    def mean(name="", t=None, f=None):
        values = [
            v for (c, a, u), v in table.items() if a == name and t in (None, u) and f in (None, frequency[c])
        ]
        return 100 * np.mean(values) if values else -100.0

    figures = {"AP": mean(), "AP50": mean(t=0.5), "AP75": mean(t=0.75)}
    figures |= {f"AP{s}": mean(s) for s in "sml"}
    return figures | {f"AP{f}": mean(f=f) for f in "rcf"}


def lvis_case(seed, most):
    rng = np.random.default_rng(seed)
    images, annotations, found = [], [], {}
    for i in range(1, 7):
        n = int(rng.integers(0, 6))
        size = rng.choice([12.0, 32.0, 40.0, 96.0, 110.0], (n, 2))
        corner = rng.uniform(0, SIDE - size)
        categories = rng.integers(1, CLASSES, n)  # the last class has no object
        own = []
        for k in range(n):
            box = [*corner[k].tolist(), *size[k].tolist()]
            own.append(
                {"id": len(annotations) + 1, "image_id": i, "category_id": int(categories[k]), "bbox": box,
                 "area": box[2] * box[3]}
            )  # fmt: skip
            annotations.append(own[-1])
        present = {a["category_id"] for a in own}
        images.append(
            {"id": i, "height": SIDE, "width": SIDE,
             "neg_category_ids": [c for c in range(1, CLASSES + 1) if c not in present and rng.random() < 0.5],
             "not_exhaustive_category_ids": [c for c in sorted(present) if rng.random() < 0.3]}
        )  # fmt: skip
        rows = []
        for _ in range(int(rng.integers(0, most))):
            category = int(rng.integers(1, CLASSES + 1))
            if own and rng.random() < 0.7:
                near = own[int(rng.integers(len(own)))]
                box = np.array(near["bbox"]) + rng.integers(-3, 4, 4)
                category = near["category_id"] if rng.random() < 0.8 else category
            else:
                box = np.concatenate([rng.integers(0, 100, 2), rng.integers(5, 60, 2)])
            box = np.float32(np.maximum(box, [0, 0, 1, 1]))
            corners = np.concatenate([box[:2], box[:2] + box[2:]])
            box = np.concatenate([corners[:2], corners[2:] - corners[:2]]).astype(np.float64)
            rows.append((float(np.float32(rng.random())), category, box.tolist(), corners))
        found[i] = rows
    kinds = [{"id": c, "name": f"c{c}", "frequency": "rcf"[c % 3]} for c in range(1, CLASSES + 1)]
    return {"images": images, "annotations": annotations, "categories": kinds}, found


def run_lvis(register, tmp_path, content, found, **kwargs):
    (tmp_path / "lvis.json").write_text(json.dumps(content))
    names = [c["name"] for c in content["categories"]]
    name = register("slow_lvis_set", [], json_file=str(tmp_path / "lvis.json"), thing_classes=names)
    evaluator = LVISEvaluator(name, tasks=("bbox",), distributed=False, **kwargs)
    for image, rows in found.items():
        inst = Instances((SIDE, SIDE), scores=torch.tensor([r[0] for r in rows], dtype=torch.float32))
        inst.pred_classes = torch.tensor([r[1] - 1 for r in rows], dtype=torch.int64)
        inst.pred_boxes = Boxes(torch.tensor(np.array([r[3] for r in rows]).reshape(-1, 4)).float())
        evaluator.process([{"image_id": image}], [{"instances": inst}])
    return evaluator.evaluate()["bbox"]


@pytest.mark.parametrize("cap", [300, 6])
@pytest.mark.parametrize("seed", range(5))
def test_lvis(register, tmp_path, seed, cap):
    content, found = lvis_case(seed, most=25)
    expected = slow_lvis(content, {i: [r[:3] for r in rows] for i, rows in found.items()}, cap)
    got = run_lvis(register, tmp_path, content, found, max_dets_per_image=cap)
    assert got == pytest.approx(expected, abs=1e-6, nan_ok=True)


def test_lvis_with_more_detections_than_the_usual_cap(register, tmp_path):
    content, found = lvis_case(10, most=700)
    assert max(map(len, found.values())) > 350
    expected = slow_lvis(content, {i: [r[:3] for r in rows] for i, rows in found.items()}, 1000)
    got = run_lvis(register, tmp_path, content, found, max_dets_per_image=1000)
    assert got == pytest.approx(expected, abs=1e-6, nan_ok=True)
    assert got != run_lvis(lambda name, *_, **__: name, tmp_path, content, found)  # with a cap of 300


@pytest.mark.parametrize("seed", range(4))
def test_lvis_fixed(register, tmp_path, monkeypatch, seed):
    monkeypatch.setattr(lvis_evaluation, "_FIXED_PER_CLASS", 8)
    content, found = lvis_case(seed, most=60)
    plain = {i: [r[:3] for r in rows] for i, rows in found.items()}
    expected = slow_lvis(content, plain, 10**6, per_class=8)
    got = run_lvis(register, tmp_path, content, found, fixed_ap=True)
    assert got == pytest.approx(expected, abs=1e-6, nan_ok=True)


# ------------------------------------------------------------------ Cityscapes

H, W = 70, 100
THINGS = [label.id for label in city.INSTANCE]


def city_case(rng):
    """Instance ids of an image with groups, void and small objects; predictions (mask, label id, score)."""
    ids = np.full((H, W), 7, dtype=np.int64)
    ids[: int(rng.integers(0, 12))] = 4  # void
    for n in range(int(rng.integers(0, 7))):
        label = int(rng.choice(THINGS[:3]))
        y, x = rng.integers(0, H - 10), rng.integers(0, W - 10)
        h, w = rng.integers(5, 30, 2)
        ids[y : y + h, x : x + w] = label if rng.random() < 0.15 else label * 1000 + n
    predictions = []
    for instance in np.unique(ids[ids >= 24]).tolist():
        for _ in range(int(rng.integers(0, 3))):
            mask = np.roll(ids == instance, rng.integers(-4, 5, 2), (0, 1))
            label = instance // 1000 if instance >= 1000 else instance
            label = label if rng.random() < 0.85 else int(rng.choice(THINGS[:3]))
            predictions.append((mask, label, float(np.float32(rng.random()))))
    for _ in range(2):
        mask = np.zeros((H, W), dtype=bool)
        y, x = rng.integers(0, H - 10), rng.integers(0, W - 10)
        mask[y : y + 9, x : x + 9] = True
        predictions.append((mask, int(rng.choice(THINGS[:3])), float(np.float32(rng.random()))))
    return ids, predictions


def slow_city_ap(cases, label, threshold):
    """AP of one class: each score in turn is the threshold, and everything is counted anew."""
    judged, missed, any_object = [], 0, False
    for ids, predictions in cases:
        void = (ids < 24) & np.isin(ids, [s.id for s in city.LABELS if s.ignored])
        own = [(m, s) for m, c, s in predictions if c == label and m.any()]
        objects, excused = [], np.zeros((H, W), dtype=bool)
        for instance in np.unique(ids).tolist():
            if (instance if instance < 1000 else instance // 1000) == label:
                pixels = ids == instance
                if instance < 1000 or pixels.sum() < 100:
                    excused |= pixels
                else:
                    objects.append(pixels)
        any_object = any_object or bool(objects)
        hit = [[(m & o).sum() / (m | o).sum() > threshold for o in objects] for m, _ in own]
        for k in range(len(objects)):
            rivals = sorted((own[p][1] for p in range(len(own)) if hit[p][k]), reverse=True)
            judged += [(score, place == 0) for place, score in enumerate(rivals)]
            missed += not rivals
        for (mask, score), hits in zip(own, hit):
            if not any(hits) and (mask & (void | excused)).sum() / mask.sum() <= threshold:
                judged.append((score, False))
    if not any_object:
        return None
    if not judged:
        return 0.0
    curve = []
    right_in_all = sum(r for _, r in judged)
    for score in sorted({s for s, _ in judged}):
        kept = [r for s, r in judged if s >= score]
        lost = right_in_all - sum(kept)
        total = sum(kept) + lost + missed
        curve.append((sum(kept) / total if total else 0.0, sum(kept) / len(kept)))
    curve.append((0.0, 1.0))
    recall = [curve[0][0], *(r for r, _ in curve), 0.0]
    return sum(p * (recall[k] - recall[k + 2]) / 2 for k, (_, p) in enumerate(curve))


@pytest.fixture
def city_set(register, tmp_path):
    def make(maps):
        folder = tmp_path / "gtFine" / "val" / "x"
        folder.mkdir(parents=True)
        names = []
        for k, ids in enumerate(maps):
            labels = np.where(ids >= 1000, ids // 1000, ids)
            Image.fromarray(labels.astype(np.uint8)).save(folder / f"x_{k}_gtFine_labelIds.png")
            Image.fromarray(ids.astype(np.uint16)).save(folder / f"x_{k}_gtFine_instanceIds.png")
            names.append(str(tmp_path / "leftImg8bit" / "val" / "x" / f"x_{k}_leftImg8bit.png"))
        things = [s.name for s in city.INSTANCE]
        return register(
            "slow_city_set", [], thing_classes=things, stuff_classes=[s.name for s in city.SEMANTIC]
        ), names

    return make


@pytest.mark.parametrize("seed", range(4))
def test_cityscapes_instances(city_set, seed):
    rng = np.random.default_rng(seed)
    cases = [city_case(rng) for _ in range(5)]
    name, files = city_set([ids for ids, _ in cases])
    evaluator = CityscapesInstanceEvaluator(name)
    for file, (_, predictions) in zip(files, cases):
        inst = Instances((H, W), scores=torch.tensor([s for _, _, s in predictions]))
        inst.pred_masks = torch.from_numpy(np.stack([m for m, _, _ in predictions]))
        inst.pred_classes = torch.tensor([THINGS.index(c) for _, c, _ in predictions])
        evaluator.process([{"file_name": file}], [{"instances": inst}])
    got = evaluator.evaluate()["segm"]
    table = [[slow_city_ap(cases, c, t / 100) for t in range(50, 100, 5)] for c in THINGS]
    known = [row for row in table if row[0] is not None]
    assert known
    assert got["AP"] == pytest.approx(100 * np.mean(known), abs=1e-9)
    assert got["AP50"] == pytest.approx(100 * np.mean([row[0] for row in known]), abs=1e-9)


@pytest.mark.parametrize("seed", range(4))
def test_cityscapes_semantic(city_set, seed):
    rng = np.random.default_rng(seed)
    ids = [s.id for s in city.SEMANTIC]
    maps = [city_case(rng)[0] for _ in range(4)]
    maps[0][30:40] = 29 * 1000 + 1  # a caravan, which is not judged
    predicted = []
    for m in maps:
        labels = np.where(m >= 1000, m // 1000, m)
        classes = np.array([ids.index(v) if v in ids else 0 for v in labels.reshape(-1).tolist()]).reshape(
            H, W
        )
        noise = rng.integers(0, 19, (H, W))
        predicted.append(np.where(rng.random((H, W)) < 0.8, classes, noise))
    name, files = city_set(maps)
    evaluator = CityscapesSemSegEvaluator(name)
    for file, classes in zip(files, predicted):
        scores = torch.nn.functional.one_hot(torch.from_numpy(classes), 19).permute(2, 0, 1)
        evaluator.process([{"file_name": file}], [{"sem_seg": scores}])
    got = evaluator.evaluate()["sem_seg"]

    truth = np.stack(maps)
    labels = np.where(truth >= 1000, truth // 1000, truth)
    found = np.array(ids)[np.stack(predicted)]
    judged = np.isin(labels, ids)

    def figures(groups, weighted):
        values = []
        for group in groups:
            inside, answer = np.isin(labels, group) & judged, np.isin(found, group)
            wrong = (answer & judged & ~inside).sum()
            if not weighted:
                whole = inside.sum() + wrong
                values.append((inside & answer).sum() / whole if whole else np.nan)
                continue
            right = missed = 0.0
            for picture, answers in zip(maps, found):
                for instance in np.unique(picture[picture >= 1000]).tolist():
                    if instance // 1000 in group and instance // 1000 in ids:
                        pixels = answers[picture == instance]
                        weight = city._MEAN_SIZE[city.LABELS[instance // 1000].name] / len(pixels)
                        right += weight * np.isin(pixels, group).sum()
                        missed += weight * (~np.isin(pixels, group)).sum()
            values.append(right / (right + missed + wrong) if right + missed else np.nan)
        return 100 * np.nanmean(values)

    classes = [[i] for i in ids]
    categories = [[s.id for s in city.SEMANTIC if s.category == c] for c in city.CATEGORIES]
    expected = {
        "IoU": figures(classes, False), "iIoU": figures(classes, True),
        "IoU_sup": figures(categories, False), "iIoU_sup": figures(categories, True),
    }  # fmt: skip
    assert got == pytest.approx(expected, abs=1e-9)


# ------------------------------------------------------------------ boundary IoU


@pytest.mark.parametrize("shape", [(20, 31), (60, 80), (5, 4)])
def test_boundary_levels(shape):
    """Label less the lowest label within 2 % of the diagonal, with 0 beyond the image."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.repeat(rng.integers(0, 5, (-(-shape[0] // 3), -(-shape[1] // 3))), 3, 0), 3, 1)
    labels = labels[: shape[0], : shape[1]]
    radius = max(1, round(0.02 * np.hypot(*shape)))
    expected = np.empty_like(labels)
    for y in range(shape[0]):
        for x in range(shape[1]):
            near = labels[max(y - radius, 0) : y + radius + 1, max(x - radius, 0) : x + radius + 1]
            outside = near.size < (2 * radius + 1) ** 2
            expected[y, x] = labels[y, x] - (0 if outside else near.min())
    np.testing.assert_array_equal(boundary_levels(labels), expected)
