"""VOC, LVIS, semantic and Cityscapes figures against slow versions; the loop; text forms."""

import json
import logging
import math

import numpy as np
import pytest
import torch
from PIL import Image

from detectron2.evaluation import (
    EVALUATOR_REGISTRY,
    CityscapesInstanceEvaluator,
    CityscapesSemSegEvaluator,
    COCOEvaluator,
    COCOPanopticEvaluator,
    LVISEvaluator,
    SemSegEvaluator,
    evaluator_for,
)
from detectron2.evaluation.cityscapes import scores as city
from detectron2.evaluation.coco.box_proposals import greedy_overlaps
from detectron2.evaluation.lvis.engine import best_of_categories
from detectron2.evaluation.pascal_voc_evaluation import _curve, _match, _Objects, voc_ap
from detectron2.evaluation.rotated_coco_evaluation import RotatedCOCOeval
from detectron2.structures import Boxes, Instances

# ------------------------------------------------------------------ VOC


def slow_voc_ap(recall, precision, eleven):
    if eleven:
        return (
            sum(
                max([p for r, p in zip(recall, precision) if r >= t], default=0.0)
                for t in np.arange(0, 1.1, 0.1)
            )
            / 11
        )
    area, last = 0.0, 0.0
    for k, r in enumerate(recall):
        area += (r - last) * max(precision[k:])
        last = r
    return area


def slow_voc(lines, objects, threshold, eleven):
    positives = sum(int((~o.difficult).sum()) for o in objects.values())
    taken = {name: [False] * len(o.boxes) for name, o in objects.items()}
    flags = []
    for name, score, *box in sorted(lines, key=lambda line: -float(line[1])):
        box = [float(v) for v in box]
        best, which = -1.0, -1
        for g, other in enumerate(objects[name].boxes.tolist()):
            w = min(box[2], other[2]) - max(box[0], other[0]) + 1
            h = min(box[3], other[3]) - max(box[1], other[1]) + 1
            if w <= 0 or h <= 0:
                continue
            size = lambda b: (b[2] - b[0] + 1) * (b[3] - b[1] + 1)  # noqa: E731
            iou = w * h / (size(box) + size(other) - w * h)
            if iou > best:
                best, which = iou, g
        if best > threshold:
            if objects[name].difficult[which]:
                continue
            flags.append(not taken[name][which])
            taken[name][which] = True
        else:
            flags.append(False)
    hits = np.cumsum(flags) if flags else np.zeros(0)
    recall, precision = hits / positives, hits / np.arange(1, len(flags) + 1)
    return slow_voc_ap(recall.tolist(), precision.tolist(), eleven)


@pytest.mark.parametrize("eleven", [True, False], ids=["2007", "2012"])
@pytest.mark.parametrize("seed", range(6))
def test_voc_equals_a_slow_version(seed, eleven):
    rng = np.random.default_rng(seed)
    images = [f"im{k}" for k in range(6)]
    objects, lines = {}, []
    for name in images:
        corner = rng.integers(1, 60, (rng.integers(0, 5), 2))
        boxes = np.concatenate([corner, corner + rng.integers(5, 40, corner.shape)], 1).astype(float)
        objects[name] = _Objects(boxes, rng.random(len(boxes)) < 0.2)
        for box in np.repeat(boxes, 2, axis=0).tolist() + [[1.0, 1.0, 9.0, 9.0]]:
            moved = np.array(box) + rng.normal(0, 3, 4)
            lines.append([name, f"{rng.random():.6f}", *(f"{v:.1f}" for v in moved)])
    matches = _match(lines, objects, images)
    for threshold in (0.5, 0.75):
        assert _curve(matches, threshold, eleven)[2] == pytest.approx(
            slow_voc(lines, objects, threshold, eleven), abs=1e-12
        )


def test_voc_ap_of_nothing():
    assert voc_ap(np.zeros(0), np.zeros(0)) == 0
    assert voc_ap(np.zeros(0), np.zeros(0), True) == 0


# ------------------------------------------------------------------ proposals, rotated


def test_greedy_overlaps_takes_the_best_pair_again_and_again():
    iou = np.array([[0.9, 0.8], [0.7, 0.1], [0.0, 0.2]])
    assert sorted(greedy_overlaps(iou).tolist()) == [0.2, 0.9]
    assert greedy_overlaps(np.zeros((0, 3))).tolist() == [0, 0, 0]


def test_rotated_boxes_as_tensors():
    assert RotatedCOCOeval.is_rotated([[1, 2, 3, 4, 5]])
    assert not RotatedCOCOeval.is_rotated([[1, 2, 3, 4]])
    assert RotatedCOCOeval.boxlist_to_tensor([[0, 0, 4, 2]], 5).tolist() == [[2, 1, 4, 2, 0]]
    with pytest.raises(ValueError, match="output_box_dim 4"):
        RotatedCOCOeval.boxlist_to_tensor([[1, 2, 3, 4, 5]], 4)
    iou = RotatedCOCOeval(iouType="bbox").compute_iou_dt_gt([[5, 5, 4, 4, 30]], [[5, 5, 8, 8, 30]], [0])
    crowd = RotatedCOCOeval(iouType="bbox").compute_iou_dt_gt([[5, 5, 4, 4, 30]], [[5, 5, 8, 8, 30]], [1])
    assert iou[0, 0] == pytest.approx(0.25, abs=1e-5)
    assert crowd[0, 0] == pytest.approx(1.0, abs=1e-5)


# ------------------------------------------------------------------ LVIS


@pytest.fixture
def lvis_set(register, tmp_path):
    content = {
        "images": [
            {
                "id": 1,
                "height": 100,
                "width": 100,
                "neg_category_ids": [2],
                "not_exhaustive_category_ids": [],
            },
            {
                "id": 2,
                "height": 100,
                "width": 100,
                "neg_category_ids": [],
                "not_exhaustive_category_ids": [1],
            },
        ],
        "categories": [{"id": c, "name": f"c{c}", "frequency": f} for c, f in ((1, "f"), (2, "r"), (3, "c"))],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 1, "bbox": [10, 10, 30, 30], "area": 900},
            {"id": 2, "image_id": 2, "category_id": 1, "bbox": [50, 50, 20, 20], "area": 400},
            {"id": 3, "image_id": 2, "category_id": 2, "bbox": [5, 5, 40, 40], "area": 1600},
        ],
    }
    path = tmp_path / "lvis.json"
    path.write_text(json.dumps(content))
    return register("evaluation_lvis_set", [], json_file=str(path), thing_classes=["c1", "c2", "c3"])


def lvis_run(name, extra=(), **kwargs):
    evaluator = LVISEvaluator(name, distributed=False, **kwargs)
    evaluator.reset()
    rows = {1: [([10, 10, 40, 40], 0, 0.9)], 2: [([50, 50, 70, 70], 0, 0.8), ([5, 5, 45, 45], 1, 0.7)]}
    for image, box, label, score in extra:
        rows[image].append((box, label, score))
    for image, found in rows.items():
        boxes, labels, scores = zip(*found)
        inst = Instances((100, 100), pred_boxes=Boxes(torch.tensor(boxes, dtype=torch.float32)))
        inst.pred_classes, inst.scores = torch.tensor(labels), torch.tensor(scores)
        evaluator.process([{"image_id": image}], [{"instances": inst}])
    return evaluator.evaluate()["bbox"]


def test_lvis_judges_only_what_was_annotated(lvis_set):
    perfect = lvis_run(lvis_set)
    assert perfect["AP"] == pytest.approx(100)
    assert perfect["APr"] == pytest.approx(100)
    assert perfect["APc"] == -100  # no object of that frequency
    # class 3 was neither annotated in nor excluded from image 1; class 1 is not exhaustive in image 2: no errors
    harmless = [(1, [60, 60, 90, 90], 2, 0.99), (2, [80, 0, 99, 20], 0, 0.99)]
    assert lvis_run(lvis_set, harmless)["AP"] == pytest.approx(100)
    # class 2 is known to be absent from image 1
    assert lvis_run(lvis_set, [(1, [60, 60, 90, 90], 1, 0.99)])["APr"] == pytest.approx(50, abs=1)


def test_lvis_twice_and_fixed(lvis_set):
    evaluator = LVISEvaluator(lvis_set, distributed=False, fixed_ap=True)
    evaluator.reset()
    inst = Instances((100, 100), pred_boxes=Boxes(torch.tensor([[10.0, 10, 40, 40]])))
    inst.pred_classes, inst.scores = torch.tensor([0]), torch.tensor([0.5])
    evaluator.process([{"image_id": 1}], [{"instances": inst}])
    assert repr(evaluator.evaluate()) == repr(evaluator.evaluate())
    with pytest.raises(ValueError, match="fixed_ap"):
        LVISEvaluator(lvis_set, fixed_ap=True, max_dets_per_image=5)


def test_best_of_each_category(make_case):
    _, found = make_case(2)
    kept = [d.chosen(flags) for d, flags in zip(found, best_of_categories(found, 5))]
    for category in {c for d in found for c in d.category_ids.tolist()}:

        def of(ds):
            return sorted(
                (float(s) for d in ds for s, c in zip(d.scores, d.category_ids) if c == category),
                reverse=True,
            )

        assert of(kept) == of(found)[:5]


# ------------------------------------------------------------------ semantic


def test_sem_seg_of_several_processes_can_be_evaluated_twice(register, tmp_path, monkeypatch):
    Image.fromarray(np.zeros((4, 5), np.uint8)).save(tmp_path / "a.png")
    record = {"file_name": "a.jpg", "sem_seg_file_name": str(tmp_path / "a.png")}
    name = register("evaluation_sem_twice", [record], stuff_classes=["a", "b"], ignore_label=255)
    evaluator = SemSegEvaluator(name, output_dir=str(tmp_path / "out"))
    evaluator.process([record], [{"sem_seg": torch.zeros(4, 5, dtype=torch.long)}])
    seen = []
    both = lambda value: seen.append(value) or [value, value]  # noqa: E731
    monkeypatch.setattr("detectron2.evaluation.sem_seg_evaluation.all_gather", both)
    for _ in range(2):
        assert evaluator.evaluate()["sem_seg"]["pACC"] == 100
        written = json.loads((tmp_path / "out" / "sem_seg_predictions.json").read_text())
        assert len(written) == 2
    matrices = [value.sum() for value in seen if isinstance(value, np.ndarray)]
    assert matrices == [20, 20, 20, 20]


def test_sem_seg_against_sets_of_pixels(register, tmp_path):
    rng = np.random.default_rng(0)
    records, predictions, truths = [], [], []
    for k in range(3):
        truth = rng.integers(0, 4, (20, 30)).astype(np.uint8)
        truth[rng.random(truth.shape) < 0.1] = 255
        Image.fromarray(truth).save(tmp_path / f"{k}.png")
        records.append({"file_name": f"{k}.jpg", "sem_seg_file_name": str(tmp_path / f"{k}.png")})
        predictions.append(
            np.where(rng.random(truth.shape) < 0.6, truth % 5, rng.integers(0, 5, truth.shape))
        )
        truths.append(truth)
    name = register("evaluation_sem_set", records, stuff_classes=list("abcde"), ignore_label=255)
    evaluator = SemSegEvaluator(name, distributed=False)
    for record, prediction in zip(records, predictions):
        evaluator.process([record], [{"sem_seg": torch.from_numpy(prediction % 5)}])
    got = evaluator.evaluate()["sem_seg"]
    p, t = np.concatenate([x.ravel() % 5 for x in predictions]), np.concatenate([x.ravel() for x in truths])
    p, t = p[t != 255], t[t != 255]
    ious = [((p == c) & (t == c)).sum() / ((p == c) | (t == c)).sum() for c in range(4)]
    assert [got[f"IoU-{c}"] for c in "abcd"] == pytest.approx([100 * v for v in ious])
    assert got["mIoU"] == pytest.approx(100 * np.mean(ious))
    assert got["fwIoU"] == pytest.approx(100 * sum(v * (t == c).mean() for c, v in enumerate(ious)))
    assert got["pACC"] == pytest.approx(100 * (p == t).mean())
    assert math.isnan(got["IoU-e"])
    with pytest.raises(ValueError, match="prediction has shape"):
        evaluator.process([records[0]], [{"sem_seg": torch.zeros(3, 3, dtype=torch.long)}])
    with pytest.raises(KeyError, match="nowhere"):
        evaluator.process([{"file_name": "nowhere"}], [{"sem_seg": torch.zeros(3, 3)}])


# ------------------------------------------------------------------ Cityscapes


@pytest.fixture
def city_set(register, tmp_path):
    rng = np.random.default_rng(3)
    images = []
    for k in range(2):
        folder = tmp_path / "gtFine" / "val" / "x"
        folder.mkdir(parents=True, exist_ok=True)
        labels = np.full((60, 90), 7, dtype=np.uint8)
        instances = labels.astype(np.uint16)
        for n in range(4):
            y, x, label = rng.integers(0, 40), rng.integers(0, 60), (24, 26)[n % 2]
            labels[y : y + 18, x : x + 20] = label
            instances[y : y + 18, x : x + 20] = label * 1000 + n
        Image.fromarray(labels).save(folder / f"x_{k}_gtFine_labelIds.png")
        Image.fromarray(instances).save(folder / f"x_{k}_gtFine_instanceIds.png")
        images.append(
            (str(tmp_path / "leftImg8bit" / "val" / "x" / f"x_{k}_leftImg8bit.png"), labels, instances)
        )
    names = [s.name for s in city.SEMANTIC]
    things = [s.name for s in city.INSTANCE]
    return register("evaluation_city_set", [], thing_classes=things, stuff_classes=names), images


def test_cityscapes_semantic(city_set):
    name, images = city_set
    evaluator = CityscapesSemSegEvaluator(name)
    ids = [s.id for s in city.SEMANTIC]
    wrong = 0
    for k, (path, labels, _) in enumerate(images):
        classes = np.searchsorted(ids, labels)
        if k == 0:
            classes[:10] = ids.index(8)
            wrong = int((labels[:10] == 7).sum())
        scores = torch.nn.functional.one_hot(torch.from_numpy(classes), 19).permute(2, 0, 1)
        evaluator.process([{"file_name": path}], [{"sem_seg": scores}])
    results = evaluator.evaluate()["sem_seg"]
    assert set(results) == {"IoU", "iIoU", "IoU_sup", "iIoU_sup"}
    road = sum(int((labels == 7).sum()) for _, labels, _ in images)
    assert evaluator._counts._iou([7]) == pytest.approx((road - wrong) / road)
    assert 0 < results["iIoU"] <= 100


@pytest.mark.parametrize("doubled", [False, True])
def test_cityscapes_instances(city_set, doubled):
    name, images = city_set
    evaluator = CityscapesInstanceEvaluator(name)
    things = [s.id for s in city.INSTANCE]
    for path, _, instances in images:
        ids = np.unique(instances[instances >= 1000])
        masks = np.stack([instances == i for i in ids])
        inst = Instances(instances.shape, pred_masks=torch.from_numpy(masks))
        inst.pred_classes = torch.tensor([things.index(i // 1000) for i in ids])
        inst.scores = torch.full((len(ids),), 0.9)
        if doubled:  # worse copies are false
            low = Instances(instances.shape, pred_masks=inst.pred_masks, pred_classes=inst.pred_classes)
            low.scores = inst.scores - 0.5
            inst = Instances.cat([inst, low])
        evaluator.process([{"file_name": path}], [{"instances": inst}])
    results = evaluator.evaluate()["segm"]
    assert results["AP50"] == pytest.approx(100) if not doubled else 70 < results["AP50"] <= 100


def test_cityscapes_without_labels(city_set):
    evaluator = CityscapesSemSegEvaluator(city_set[0])
    with pytest.raises(FileNotFoundError, match="gtFine"):
        evaluator.process([{"file_name": "a/b_leftImg8bit.png"}], [{"sem_seg": torch.zeros(19, 4, 4)}])


# ------------------------------------------------------------------ dispatch


def test_evaluators_of_cityscapes_panoptic(register, tmp_path):
    (tmp_path / "panoptic.json").write_text('{"annotations": [], "categories": []}')
    name = register(
        "evaluation_city_panoptic", [], evaluator_type="cityscapes_panoptic_seg",
        panoptic_json=str(tmp_path / "panoptic.json"), panoptic_root=str(tmp_path),
    )  # fmt: skip
    kinds = [type(e) for e in evaluator_for(name, str(tmp_path))._evaluators]
    assert kinds == [CityscapesSemSegEvaluator, CityscapesInstanceEvaluator, COCOPanopticEvaluator]


def test_evaluators_by_type(register, caplog):
    name = register("evaluation_typed_set", [], thing_classes=["a"])
    assert isinstance(evaluator_for(name, allow_cached_coco=False), COCOEvaluator)
    other = register("evaluation_odd_set", [], evaluator_type="cocoo")
    with caplog.at_level(logging.WARNING), pytest.raises(KeyError, match="coco"):
        evaluator_for(other)
    assert {"coco", "lvis", "sem_seg", "pascal_voc", "coco_panoptic_seg"} <= {
        n for n, _ in EVALUATOR_REGISTRY
    }
