"""Panoptic quality against the definition, written out slowly."""

import json
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from detectron2.evaluation import COCOPanopticEvaluator
from detectron2.evaluation.panoptic.evaluator import id2rgb, read_ids
from detectron2.evaluation.panoptic.quality import PanopticCounts, panoptic_results, positions

CATEGORIES = [
    {"id": 3, "name": "cat", "isthing": 1},
    {"id": 8, "name": "dog", "isthing": 1},
    {"id": 20, "name": "sky", "isthing": 0},
]


def partition(rng, shape, segments, categories, crowd=0.0):
    """A map of ids with unlabelled pixels, and its infos."""
    ids = np.zeros(shape, dtype=np.int64)
    infos = []
    numbers = rng.choice(np.arange(1, 2**20), segments, replace=False)
    for number in numbers.tolist():
        y, x = rng.integers(0, shape[0] - 4), rng.integers(0, shape[1] - 4)
        ids[y : y + rng.integers(3, 14), x : x + rng.integers(3, 14)] = number
    for number in np.unique(ids[ids > 0]).tolist():
        infos.append(
            {"id": number, "category_id": int(rng.choice(categories)), "iscrowd": int(rng.random() < crowd)}
        )
    return ids, infos


def slow_pq(pairs):
    """PQ of Kirillov et al., pixel set by pixel set."""
    stats = {c["id"]: [0.0, 0, 0, 0] for c in CATEGORIES}
    for truth, truth_info, found, found_info in pairs:
        void = truth == 0
        used_truth, used_found = set(), set()
        for t in truth_info:
            for f in found_info:
                if t["category_id"] != f["category_id"] or t["iscrowd"]:
                    continue
                a, b = truth == t["id"], found == f["id"]
                union = (a | (b & ~void)).sum()
                iou = (a & b).sum() / union
                if iou > 0.5:
                    stats[t["category_id"]][0] += iou
                    stats[t["category_id"]][1] += 1
                    used_truth.add(t["id"])
                    used_found.add(f["id"])
        for t in truth_info:
            if t["id"] not in used_truth and not t["iscrowd"]:
                stats[t["category_id"]][3] += 1
        for f in found_info:
            if f["id"] in used_found:
                continue
            excused = void.copy()
            for t in truth_info:
                if t["iscrowd"] and t["category_id"] == f["category_id"]:
                    excused |= truth == t["id"]
            own = found == f["id"]
            if (own & excused).sum() / own.sum() <= 0.5:
                stats[f["category_id"]][2] += 1
    rows = {}
    for category, (iou, tp, fp, fn) in stats.items():
        if tp + fp + fn:
            rows[category] = (
                iou / (tp + fp / 2 + fn / 2),
                iou / tp if tp else 0.0,
                tp / (tp + fp / 2 + fn / 2),
            )
    return rows


@pytest.mark.parametrize("seed", range(15))
def test_equals_the_definition(seed):
    rng = np.random.default_rng(seed)
    counts, pairs = PanopticCounts(), []
    parts = [PanopticCounts(), PanopticCounts()]
    for k in range(4):
        truth, truth_info = partition(rng, (30, 40), 7, [3, 8, 20], crowd=0.2)
        found, found_info = truth.copy(), []
        if rng.random() < 0.8:
            found = np.roll(found, rng.integers(0, 4), axis=1)
            extra, _ = partition(rng, (30, 40), 2, [3])
            found = np.where(extra > 0, extra, found)
        for number in np.unique(found[found > 0]).tolist():
            same = [t["category_id"] for t in truth_info if t["id"] == number]
            category = same[0] if same and rng.random() < 0.8 else int(rng.choice([3, 8, 20]))
            found_info.append({"id": number, "category_id": category})
        hidden = {"id": 2**24 - 1, "category_id": 3}  # all its pixels lie below other segments
        for target in (counts, parts[k % 2]):
            target.add_image(truth, truth_info, found, [*found_info[:1], hidden, *found_info[1:]])
        pairs.append((truth, truth_info, found, found_info))
    expected = slow_pq(pairs)
    got = counts.per_category()
    assert got.keys() == expected.keys()
    for category, row in expected.items():
        assert got[category] == pytest.approx(row, abs=1e-12)
    things = {c["id"]: bool(c["isthing"]) for c in CATEGORIES}
    merged = panoptic_results(parts[1].merge([parts[0]]), things)
    assert merged == panoptic_results(counts, things)  # bit for bit


def test_unknown_ids_are_errors():
    with pytest.raises(ValueError, match="segment id 9"):
        positions(np.array([0, 9]), [4], "a picture")
    with pytest.raises(ValueError, match="different"):
        positions(np.array([0, 4]), [4, 4], "a picture")
    assert positions(np.array([0, 4, 4, 7]), [7, 4], "a picture").tolist() == [0, 2, 2, 1]
    assert positions(np.zeros(0, dtype=np.int64), [], "a picture").tolist() == []


@pytest.mark.parametrize("opencv", [True, False])
@pytest.mark.parametrize("mode", ["RGB", "P", "L"])
def test_picture_round_trip(tmp_path, monkeypatch, mode, opencv):
    if not opencv:
        monkeypatch.setitem(sys.modules, "cv2", None)
    ids = np.array([[0, 1, 255], [256, 65536, 256**3 - 1]])
    if mode == "L":  # all three channels alike
        ids = np.array([[0, 7], [200, 255]]) * (1 + 256 + 65536)
    picture = Image.fromarray(id2rgb(ids))
    picture = picture.quantize(8) if mode == "P" else picture.convert(mode)
    picture.save(tmp_path / "x.png")
    np.testing.assert_array_equal(read_ids(str(tmp_path / "x.png")), ids)


@pytest.fixture
def panoptic_set(register, tmp_path):
    rng = np.random.default_rng(1)
    annotations = []
    for i in range(3):
        ids, infos = partition(rng, (30, 40), 6, [3, 8, 20])
        Image.fromarray(id2rgb(ids)).save(tmp_path / f"{i}.png")
        annotations.append({"image_id": i, "file_name": f"{i}.png", "segments_info": infos})
    path = tmp_path / "panoptic.json"
    path.write_text(json.dumps({"annotations": annotations, "categories": CATEGORIES, "images": []}))
    name = register(
        "evaluation_panoptic_set",
        [],
        panoptic_json=str(path),
        panoptic_root=str(tmp_path),
        thing_dataset_id_to_contiguous_id={3: 0, 8: 1},
        stuff_dataset_id_to_contiguous_id={20: 2},
        label_divisor=1000,
    )
    return name, annotations, tmp_path


def as_prediction(annotation, folder):
    ids = read_ids(str(folder / annotation["file_name"]))
    back = {3: (0, True), 8: (1, True), 20: (2, False)}
    infos = [
        {"id": s["id"], "category_id": back[s["category_id"]][0], "isthing": back[s["category_id"]][1]}
        for s in annotation["segments_info"]
    ]
    return torch.from_numpy(ids), infos


def test_evaluator(panoptic_set):
    name, annotations, folder = panoptic_set
    evaluator = COCOPanopticEvaluator(name, str(folder / "out"))
    for annotation in annotations:
        record = {"image_id": annotation["image_id"], "file_name": f"images/{annotation['image_id']}.jpg"}
        evaluator.process([record], [{"panoptic_seg": as_prediction(annotation, folder)}])
    results = evaluator.evaluate()["panoptic_seg"]
    assert list(results) == ["PQ", "SQ", "RQ", "PQ_th", "SQ_th", "RQ_th", "PQ_st", "SQ_st", "RQ_st"]
    assert set(results.values()) == {100.0}
    written = json.loads((folder / "out" / "predictions.json").read_text())["annotations"]
    assert {s["category_id"] for s in written[0]["segments_info"]} <= {3, 8, 20}
    assert (folder / "out" / "0.png").exists()
    with pytest.raises(ValueError, match="image_id 99"):
        evaluator.process([{"image_id": 99, "file_name": "x"}], [{"panoptic_seg": (torch.zeros(2, 2), [])}])


def test_ids_with_label_divisor(panoptic_set):
    name, _, _ = panoptic_set
    evaluator = COCOPanopticEvaluator(name)
    ids, infos = evaluator._infos_from_ids(np.array([[-1, 1003], [2000, 1003]]))
    assert ids.tolist() == [[0, 1004], [2001, 1004]]
    assert [(s["id"], s["category_id"], s["isthing"]) for s in infos] == [(1004, 1, True), (2001, 2, False)]
