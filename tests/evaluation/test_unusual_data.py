"""Data as users have them: ids of NumPy, entries twice, labels of nothing. No evaluation ends a training for them."""

import json
import logging
import sys
import threading

import numpy as np
import pytest
import torch

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.catalog import forget
from detectron2.data.datasets import register_coco_instances
from detectron2.evaluation import COCOEvaluator, DatasetEvaluator, LVISEvaluator
from detectron2.evaluation.build import evaluator_for
from detectron2.evaluation.coco.truth import GroundTruth
from detectron2.evaluation.tolerant import NoEvaluatorError, TolerantEvaluators
from detectron2.structures import Boxes, BoxMode, Instances

SIZE = (60, 80)
BOX = [10.0, 10, 20, 15]


def coco(**changes):
    content = {
        "images": [{"id": i, "height": 60, "width": 80, "file_name": f"{i}.jpg"} for i in (1, 2)],
        "categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}],
        "annotations": [
            {"id": i, "image_id": i, "category_id": i, "bbox": BOX, "area": 300.0, "iscrowd": 0}
            for i in (1, 2)
        ],
    }
    return {**content, **changes}


def found(boxes=(BOX,), classes=(0,), scores=(0.9,), **fields):
    xywh = torch.tensor(boxes).reshape(-1, 4)
    made = Instances(SIZE, pred_boxes=Boxes(torch.cat([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], 1)))
    made.pred_classes, made.scores = torch.tensor(classes), torch.tensor(scores)
    for name, value in fields.items():
        made.set(name, value)
    return made


@pytest.fixture
def file_set(register, tmp_path):
    """A function that registers the content of a COCO or LVIS file, and gives the data set's name."""
    import json

    def make(content, **metadata):
        (tmp_path / "labels.json").write_text(json.dumps(content))
        return register("evaluation_unusual_set", [], json_file=str(tmp_path / "labels.json"), **metadata)

    return make


def judge(evaluator, predictions):
    evaluator.reset()
    for image_id, instances in predictions.items():
        evaluator.process([{"image_id": image_id}], [{"instances": instances}])
    return evaluator.evaluate()


RIGHT = {1: found(), 2: found(classes=(1,))}
MAP = {"thing_dataset_id_to_contiguous_id": {1: 0, 2: 1}, "thing_classes": ["a", "b"]}


@pytest.mark.parametrize("engine", ["hotcoco", "pycocotools"])
@pytest.mark.parametrize(
    "extra",
    [
        {"image_id": 77, "category_id": 1},
        {"image_id": 1, "category_id": 99},
        {"image_id": None, "category_id": 1},
    ],
    ids=["image", "category", "none"],
)
def test_annotations_of_unlisted_images_and_categories_are_left_out(file_set, engine, extra, caplog):
    content = coco()
    content["annotations"].append({"id": 9, "bbox": BOX, "area": 300, **extra})
    with caplog.at_level(logging.WARNING):
        name = file_set(content, **MAP)
        result = judge(COCOEvaluator(name, distributed=False, engine=engine), RIGHT)
    assert result["bbox"]["AP"] == pytest.approx(100)
    assert "1 of 3 annotations are ignored" in caplog.text


@pytest.mark.parametrize("engine", ["hotcoco", "pycocotools"])
def test_predictions_of_unlisted_categories_are_passed_over(file_set, engine):
    name = file_set(coco(categories=[{"id": 2, "name": "b"}]), **MAP)
    evaluator = COCOEvaluator(name, distributed=False, engine=engine)
    assert judge(evaluator, RIGHT)["bbox"]["AP"] == pytest.approx(100)
    told = evaluator.diagnose()
    assert [r.objects for r in told.classes] == [1]


@pytest.mark.parametrize("engine", ["hotcoco", "pycocotools"])
def test_images_listed_twice(file_set, engine):
    content = coco()
    content["images"].append(content["images"][0])
    name = file_set(content, **MAP)
    assert judge(COCOEvaluator(name, distributed=False, engine=engine), RIGHT)["bbox"]["AP"] == pytest.approx(
        100
    )


@pytest.mark.parametrize(
    "kind",
    [np.int64, np.int32, np.str_, lambda i: torch.tensor(i)],
    ids=lambda kind: getattr(kind, "__name__", str(kind)),
)
@pytest.mark.parametrize("in_file", [True, False], ids=["json", "memory"])
def test_ids_of_numpy_types(register, tmp_path, kind, in_file):
    records = [
        {
            "file_name": f"{i}.jpg", "image_id": kind(i), "height": 60, "width": 80,
            "annotations": [{"bbox": BOX, "bbox_mode": BoxMode.XYWH_ABS, "category_id": np.int64(i - 1)}],
        }
        for i in (1, 2)
    ]  # fmt: skip
    name = register("evaluation_numpy_ids", records, thing_classes=["a", "b"])
    place = {"output_dir": str(tmp_path)} if in_file else {"allow_cached_coco": False}
    evaluator = COCOEvaluator(name, distributed=False, **place)
    assert judge(evaluator, {kind(1): found(), kind(2): found(classes=(1,))})["bbox"]["AP"] == pytest.approx(
        100
    )


def test_an_evaluator_may_be_made_before_its_data_set_is_loaded(file_set):
    name = file_set(coco())
    evaluator = COCOEvaluator(name, distributed=False)
    MetadataCatalog.get(name).set(**MAP)
    assert judge(evaluator, RIGHT)["bbox"]["AP"] == pytest.approx(100)


def test_ids_that_are_texts_have_figures_but_no_diagnosis(register):
    record = {"file_name": "1.jpg", "image_id": "one", "height": 60, "width": 80}
    record["annotations"] = [{"bbox": BOX, "bbox_mode": BoxMode.XYWH_ABS, "category_id": 0}]
    name = register("evaluation_text_ids", [record], thing_classes=["a"])
    evaluator = COCOEvaluator(name, distributed=False, allow_cached_coco=False)
    assert judge(evaluator, {"one": found()})["bbox"]["AP"] == pytest.approx(100)
    assert evaluator.diagnose() is None


def test_far_polygons_in_the_slow_engine(file_set):
    content = coco()
    for a in content["annotations"]:
        a["segmentation"] = [[10, 10, 30, 10, 30, 25, 10, 25, 10, 1e9]]
    masks = torch.zeros(1, *SIZE, dtype=torch.bool)
    masks[0, 10:, 10:12] = True
    name = file_set(content, **MAP)
    evaluator = COCOEvaluator(name, distributed=False, engine="pycocotools")
    assert "segm" in judge(evaluator, {1: found(pred_masks=masks)})


# ---- LVIS


def lvis(annotations, categories=(1,)):
    image = {"id": 1, "height": 60, "width": 80, "neg_category_ids": [], "not_exhaustive_category_ids": []}
    rows = [
        {"id": i, "image_id": 1, "category_id": categories[0], "area": a["bbox"][2] * a["bbox"][3], **a}
        for i, a in enumerate(annotations, 1)
    ]
    return {
        "images": [image],
        "annotations": rows,
        "categories": [{"id": c, "name": f"c{c}", "frequency": "f"} for c in categories],
    }


OTHER = [50.0, 40, 20, 15]
WRONG_THEN_RIGHT = {"boxes": (OTHER, BOX), "scores": (0.9, 0.8)}


def test_lvis_counts_boxes_of_empty_masks(file_set):
    name = file_set(lvis([{"bbox": BOX, "segmentation": [[10, 10, 30, 10, 30, 25, 10, 25]]}]))
    masks = torch.zeros(2, *SIZE, dtype=torch.bool)
    masks[1, 10:25, 10:30] = True
    result = judge(
        LVISEvaluator(name, distributed=False),
        {1: found(**WRONG_THEN_RIGHT, classes=(0, 0), pred_masks=masks)},
    )
    assert result["bbox"]["AP"] == pytest.approx(50, abs=1)
    assert result["segm"]["AP"] == pytest.approx(100)


def test_lvis_counts_masks_of_empty_boxes(file_set):
    name = file_set(lvis([{"bbox": BOX, "segmentation": [[10, 10, 30, 10, 30, 25, 10, 25]]}]))
    masks = torch.zeros(1, *SIZE, dtype=torch.bool)
    masks[0, 10:25, 10:30] = True
    result = judge(
        LVISEvaluator(name, distributed=False), {1: found(boxes=([0.0, 0, 0, 0],), pred_masks=masks)}
    )
    assert result["bbox"]["AP"] == 0
    assert result["segm"]["AP"] == pytest.approx(100)


def test_lvis_passes_over_predictions_of_unlisted_categories(file_set):
    name = file_set(lvis([{"bbox": BOX}], categories=(3,)))
    result = judge(LVISEvaluator(name, distributed=False), {1: found(**WRONG_THEN_RIGHT, classes=(0, 2))})
    assert result["bbox"]["AP"] == pytest.approx(100)


@pytest.mark.parametrize("ignored", [True, False])
def test_lvis_ignored_objects_are_not_missed(file_set, ignored):
    name = file_set(lvis([{"bbox": BOX}, {"bbox": OTHER, "ignore": int(ignored)}]))
    result = judge(LVISEvaluator(name, distributed=False), {1: found()})["bbox"]
    assert result["AP"] == pytest.approx(100 if ignored else 50, abs=1)
    assert result["APr"] == -100, "no rare category: as programs expect that read it"


# ---- defaults, threads


def test_without_a_type_and_class_names_there_is_no_evaluator(register):
    name = register("evaluation_no_type", [])
    with pytest.raises(NoEvaluatorError, match="evaluator_type None") as caught:
        evaluator_for(name)
    assert isinstance(caught.value, NotImplementedError) and isinstance(caught.value, KeyError)


@pytest.mark.parametrize("at", ["process", "evaluate"])
def test_a_default_evaluator_that_fails_gives_no_figures(caplog, at):
    class Failing(DatasetEvaluator):
        def process(self, inputs, outputs):
            self._fail("process")

        def evaluate(self):
            self._fail("evaluate")
            return {"task": {"metric": 1.0}}

        def _fail(self, place):
            if place == at:
                raise ValueError("image_id 5 is unknown")

    evaluator = TolerantEvaluators(Failing(), "my_set")
    evaluator.reset()
    evaluator.process([], [])
    evaluator.process([], [])
    assert evaluator.evaluate() == {}
    assert caplog.text.count("my_set cannot be evaluated") == 1


@pytest.mark.parametrize("engine", ["hotcoco", "pycocotools"])
def test_threads_keep_sys_stdout(file_set, engine, capsys):
    name = file_set(coco(), **MAP)
    before, seen = sys.stdout, []

    def work():
        for _ in range(3):
            judge(COCOEvaluator(name, distributed=False, engine=engine), RIGHT)
            seen.append(sys.stdout)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        threads = [threading.Thread(target=work) for _ in range(4)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
    finally:
        sys.setswitchinterval(interval)
    assert len(seen) == 12 and all(s is before for s in seen)
    assert capsys.readouterr().out == ""


def test_truth_in_memory_keeps_text_ids():
    truth = GroundTruth(coco(images=[{"id": np.str_("x")}], annotations=[]))
    assert list(truth.images) == ["x"] and not truth.annotations


def test_registered_set_is_found_again(file_set):
    assert file_set(coco(), **MAP) in DatasetCatalog.list()


@pytest.mark.parametrize("tasks", [("bbox",), None])
def test_an_evaluator_before_its_data_set_is_loaded(tasks, tmp_path):
    label = {"id": 1, "image_id": 1, "category_id": 7, "bbox": [5, 5, 30, 20], "area": 600, "iscrowd": 0}
    image = {"id": 1, "height": 50, "width": 60, "file_name": "a.png"}
    categories = [{"id": 7, "name": "x"}, {"id": 3, "name": "y"}]
    content = {"images": [image], "categories": categories, "annotations": [label]}
    (tmp_path / "a.json").write_text(json.dumps(content))
    register_coco_instances("evaluation_before", {}, str(tmp_path / "a.json"), str(tmp_path))
    evaluator = COCOEvaluator("evaluation_before", tasks=tasks)
    found = Instances((50, 60), pred_boxes=Boxes(torch.tensor([[5.0, 5, 35, 25]])), scores=torch.ones(1))
    found.pred_classes = torch.tensor([1])
    evaluator.process([{"image_id": 1}], [{"instances": found}])
    results = evaluator.evaluate()["bbox"]
    assert results["AP"] == results["AP-x"] == pytest.approx(100)
    DatasetCatalog.get("evaluation_before")
    forget("evaluation_before")


def test_ids_from_one_on_are_taken_as_predicted_before_loading(tmp_path):
    label = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [5, 5, 30, 20], "area": 600, "iscrowd": 0}
    image = {"id": 1, "height": 50, "width": 60, "file_name": "a.png"}
    content = {"images": [image], "categories": [{"id": 1, "name": "x"}], "annotations": [label]}
    (tmp_path / "a.json").write_text(json.dumps(content))
    register_coco_instances("evaluation_ids", {}, str(tmp_path / "a.json"), str(tmp_path))
    found = Instances((50, 60), pred_boxes=Boxes(torch.tensor([[5.0, 5, 35, 25]])), scores=torch.ones(1))
    for predicted, ap in ((0, 0.0), (1, 100.0)):
        evaluator = COCOEvaluator("evaluation_ids", tasks=("bbox",))
        found.pred_classes = torch.tensor([predicted])
        evaluator.process([{"image_id": 1}], [{"instances": found}])
        assert evaluator.evaluate()["bbox"]["AP"] == pytest.approx(ap)
    forget("evaluation_ids")
