"""Records of an evaluation: what goes in comes out; what was cut off is left out; what is done is not done again."""

import logging
import os

import numpy as np
import pytest
import torch
from torch import nn

from detectron2.data import build_detection_test_loader
from detectron2.evaluation import COCOEvaluator, DatasetEvaluator, inference_on_dataset, resumable_evaluation
from detectron2.evaluation.coco.detections import ImageDetections, from_json_dicts, pack_instances
from detectron2.evaluation.coco.predictions import PredictionList, save_list
from detectron2.evaluation.progress.records import RecordList, RecordWriter, decode, encode, read_records
from detectron2.structures import Boxes, BoxMode, Instances, RotatedBoxes


def same(a, b):
    assert type(a) is type(b) or {type(a), type(b)} == {list, tuple}, (a, b)
    if isinstance(a, dict):
        assert list(a) == list(b)
        for key in a:
            same(a[key], b[key])
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b)
        for x, y in zip(a, b):
            same(x, y)
    elif isinstance(a, np.ndarray):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)
    elif isinstance(a, torch.Tensor):
        assert a.dtype == b.dtype
        assert torch.equal(a, b)
    else:
        assert a == b or (a != a and b != b)


RECORDS = [
    {"a": 1, "b": [1.5, None, "ä", True], "c": {}},
    {
        "x": np.arange(6, dtype=np.int16).reshape(2, 3),
        "empty": np.zeros((0, 4), dtype=np.float32),
        "s": np.float64(0.1),
    },
    {
        "raw": b"\x00\xff",
        "nothing": b"",
        "nan": float("nan"),
        "t": torch.arange(3) / 7,
        "scalar": torch.tensor(2),
    },
    [["nested", [np.ones(2, dtype=bool)]], (1, 2)],
]


@pytest.mark.parametrize("record", RECORDS)
def test_a_record_comes_back(record):
    expected = {**record, "s": 0.1} if "s" in record else record
    same(decode(encode(record)), expected)


@pytest.mark.parametrize("task", ["bbox", "segm", "keypoints"])
def test_detections_come_back(make_case, task):
    for found in make_case(3, task)[1]:
        again = decode(encode({"d": found}))["d"]
        same(vars(again), {**vars(found), "size": tuple(found.size)})
        assert list(again) == list(found)


def test_instances_come_back():
    found = Instances(
        (4, 5), proposal_boxes=Boxes(torch.rand(3, 4)), logits=torch.rand(3), n=RotatedBoxes(torch.rand(3, 5))
    )
    again = decode(encode(found))
    assert again.image_size == (4, 5)
    assert torch.equal(again.proposal_boxes.tensor, found.proposal_boxes.tensor)
    assert torch.equal(again.n.tensor, found.n.tensor) and torch.equal(again.logits, found.logits)


def test_what_records_cannot_hold():
    with pytest.raises(TypeError, match="Thread"):
        encode({"x": __import__("threading").Thread()})
    with pytest.raises(TypeError, match="objects"):
        encode(np.array([object()]))


@pytest.mark.parametrize("lost", range(1, 40, 3))
def test_a_torn_file_keeps_its_whole_records(tmp_path, lost):
    path = str(tmp_path / "x" / "a.records")
    writer = RecordWriter(path)
    ends = []
    for record in RECORDS:
        writer.append(record)
        ends.append(os.path.getsize(path))
    writer.close()
    os.truncate(path, ends[-1] - lost)
    whole = list(read_records(path))
    assert [end for _, end in whole] == [e for e in ends if e <= ends[-1] - lost]
    writer = RecordWriter(path, keep=whole[-1][1])
    writer.append({"more": 1})
    writer.close()
    assert [r for r, _ in read_records(path)][-1] == {"more": 1}
    assert len(list(read_records(path))) == len(whole) + 1


def test_a_damaged_record_ends_the_file(tmp_path):
    path = tmp_path / "a.records"
    writer = RecordWriter(str(path))
    for k in range(5):
        writer.append({"k": k})
    writer.close()
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    assert [r["k"] for r, _ in read_records(str(path))] == [0, 1]
    assert list(read_records(str(tmp_path / "absent"))) == []


def test_a_list_of_records():
    records = RecordList()
    for k in range(40):
        records.append({"k": k, "x": np.full(100_000, k)})  # far more than stays in memory
    assert len(records) == 40
    assert [r["k"] for r in records] == list(range(40))
    assert records[-1]["x"][5] == 39 and [r["k"] for r in records[3:9:2]] == [3, 5, 7]
    records.append({"k": 40})  # between two readings
    assert records[40] == {"k": 40} and records[0]["x"].sum() == 0
    with pytest.raises(IndexError):
        records[41]


def test_records_of_known_size_are_pickled_only_when_they_are_many(monkeypatch):
    monkeypatch.setattr("detectron2.evaluation.progress.records._IN_MEMORY", 1000)

    class Sized(RecordList):
        def _size_of(self, record):
            return record["size"]

    records, given = Sized(), [{"size": size} for size in (400, 400, 100, 200, 1, None)]
    records.extend(given[:3])
    assert len(records) == 3 and all(records[k] is given[k] for k in range(3))
    records.extend(given[3:])  # 1,100 bytes and more
    assert list(records) == given and not any(ours is theirs for ours, theirs in zip(records, given))


def test_detections_do_not_share_memory_with_the_predictions():
    for kind in (Boxes, RotatedBoxes):
        found = Instances((40, 60))
        found.pred_boxes = kind(torch.rand(3, 4 if kind is Boxes else 5))
        found.scores, found.pred_classes = torch.rand(3), torch.arange(3)
        found.pred_keypoints = torch.rand(3, 2, 3)
        packed = pack_instances(found, 7)
        before = list(packed)
        for tensor in (found.pred_boxes.tensor, found.scores, found.pred_classes, found.pred_keypoints):
            tensor.zero_()
        assert list(packed) == before


def test_predictions_may_be_result_dicts():
    dicts = [{"image_id": 4, "category_id": 1, "bbox": [1.0, 2.0, 3.0, 4.0], "score": 0.25}]
    predictions = PredictionList([{"image_id": 4, "instances": dicts}, {"image_id": 2, "instances": []}])
    assert predictions.image_ids == [4, 2] and predictions.in_order_of_ids() == [1, 0]
    assert predictions.parts == {"instances"} and predictions.tasks == {"bbox"}
    assert isinstance(predictions[0]["instances"], ImageDetections)
    assert list(predictions[0]["instances"]) == list(from_json_dicts(dicts, 4)) == dicts


@pytest.mark.parametrize("count", [0, 1, 700])
def test_a_saved_list_is_read_by_torch(tmp_path, count):
    items = [
        {"image_id": k, "instances": [{"bbox": [0.5, 1.0 * k], "name": "same"}] * (k % 3)}
        for k in range(count)
    ]
    save_list(str(tmp_path / "a.pth"), iter(items))
    for safe in (True, False):
        assert torch.load(tmp_path / "a.pth", weights_only=safe) == items


# ------------------------------------------------------------------ the loop


class Model(nn.Module):
    """Finds what is there, some of it; stops with an error after so many images."""

    def __init__(self, stop=None, shift=0.0):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([1.0]))
        self.seen = []
        self.shift, self._stop = shift, {"after": stop}  # a dict is no setting

    def forward(self, batch):
        self.seen += [record["image_id"] for record in batch]
        if len(self.seen) > (self._stop["after"] or 99):
            raise KeyboardInterrupt
        outputs = []
        for record in batch:
            boxes = torch.tensor([a["bbox"] for a in record["annotations"]]).reshape(-1, 4)
            found = Instances((record["height"], record["width"]), pred_boxes=Boxes(boxes + self.shift))
            found.scores = torch.linspace(1, 0.5, len(boxes))
            found.pred_classes = torch.tensor(
                [a["category_id"] for a in record["annotations"]], dtype=torch.int64
            )
            outputs.append({"instances": found})
        return outputs


@pytest.fixture
def data(register):
    rng = np.random.default_rng(0)
    dicts = []
    for i in range(11):
        corner = rng.uniform(0, 60, (int(rng.integers(0, 4)), 2))
        boxes = np.concatenate([corner, corner + rng.uniform(5, 30, corner.shape)], 1).tolist()
        annotations = [
            {"bbox": b, "bbox_mode": BoxMode.XYXY_ABS, "category_id": int(rng.integers(2))} for b in boxes
        ]
        dicts.append(
            {
                "file_name": f"{i}.jpg",
                "image_id": 50 - i,
                "height": 90,
                "width": 90,
                "annotations": annotations,
            }
        )
    return register("evaluation_resumed_set", dicts, thing_classes=["a", "b"]), dicts


def evaluate(model, data, folder, loader=None, resume=True):
    name, dicts = data
    if loader is None:
        loader = build_detection_test_loader(dicts, mapper=lambda r: r, batch_size=2)
    evaluator = COCOEvaluator(name, distributed=False, allow_cached_coco=False)
    with resumable_evaluation(str(folder), resume=resume):
        return inference_on_dataset(model, loader, evaluator)


@pytest.mark.parametrize("kind", ["torch's loader", "a list"])
def test_what_is_done_is_not_done_again(data, tmp_path, kind):
    loader = None if kind == "torch's loader" else [data[1][k : k + 2] for k in range(0, 11, 2)]
    whole = evaluate(Model(), data, tmp_path / "whole", loader)
    broken = Model(stop=5)
    with pytest.raises(KeyboardInterrupt):
        evaluate(broken, data, tmp_path / "a", loader)
    rest = Model()
    results = evaluate(rest, data, tmp_path / "a", loader)
    assert rest.seen == [d["image_id"] for d in data[1][4:]]
    assert repr(results) == repr(whole)  # NaN included
    again = Model()
    assert repr(evaluate(again, data, tmp_path / "a", loader)) == repr(whole)
    assert again.seen == []
    anew = Model()
    evaluate(anew, data, tmp_path / "a", loader, resume=False)
    assert len(anew.seen) == 11
    assert len(list((tmp_path / "a").iterdir())) == 1


def test_another_model_starts_anew(data, tmp_path, caplog):
    evaluate(Model(), data, tmp_path)
    changed, shifted = Model(), Model(shift=3.0)
    changed.weight.data += 1
    for model in (changed, shifted):
        with caplog.at_level(logging.INFO, logger="detectron2.evaluation"):
            evaluate(model, data, tmp_path)
        assert len(model.seen) == 11
    assert "No results of this model" in caplog.text


def test_evaluators_of_other_kinds_are_run_as_ever(data, tmp_path, caplog):
    class Count(DatasetEvaluator):
        def reset(self):
            self.n = 0

        def process(self, inputs, outputs):
            self.n += len(inputs)

        def evaluate(self):
            return {"count": {"images": self.n}}

    dicts = data[1]
    loader = build_detection_test_loader(dicts, mapper=lambda r: r)
    with resumable_evaluation(str(tmp_path)), caplog.at_level(logging.WARNING):
        assert inference_on_dataset(Model(), loader, Count()) == {"count": {"images": 11}}
    assert "Count" in caplog.text and not list(tmp_path.iterdir())


def test_a_subclass_with_a_plain_list(data, tmp_path):
    class Own(COCOEvaluator):
        def reset(self):
            self._predictions = []

        def process(self, inputs, outputs):
            for record, output in zip(inputs, outputs):
                rows = [
                    {"image_id": record["image_id"], "category_id": c, "bbox": [*b[:2], b[2] - b[0], b[3] - b[1]], "score": s}
                    for b, c, s in zip(
                        output["instances"].pred_boxes.tensor.tolist(),
                        output["instances"].pred_classes.tolist(),
                        output["instances"].scores.tolist(),
                    )
                ]  # fmt: skip
                self._predictions.append({"image_id": record["image_id"], "instances": rows})

    name, dicts = data
    loader = build_detection_test_loader(dicts, mapper=lambda r: r)
    results = [
        inference_on_dataset(Model(), loader, cls(name, distributed=False, allow_cached_coco=False))
        for cls in (COCOEvaluator, Own)
    ]
    assert results[0]["bbox"]["AP"] == pytest.approx(100)
    assert results[1]["bbox"] == pytest.approx(results[0]["bbox"], abs=1e-9, nan_ok=True)
    with resumable_evaluation(str(tmp_path)), pytest.raises(ValueError, match="Own cannot be resumed"):
        inference_on_dataset(Model(), loader, Own(name, distributed=False, allow_cached_coco=False))
