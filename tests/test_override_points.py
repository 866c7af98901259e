"""Every method that subclasses of old programs replace is called where Detectron2 calls it.

``parity/override_points.json`` lists them. For each class a scenario runs the public entry on a subclass that records
which of its listed methods are called.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.catalog import forget
from detectron2.structures import Boxes, BoxMode, Instances, RotatedBoxes
from detectron2.utils.events import EventStorage

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "modeling"))
from _models import example, image, small_config, small_model  # noqa: E402

LISTED: list[list[Any]] = json.loads((HERE / "parity" / "override_points.json").read_text(encoding="utf-8"))
METHODS = [(owner, name) for owner, name, *_ in LISTED if owner.rpartition(".")[2][0].isupper()]
FUNCTIONS = [(owner, name) for owner, name, *_ in LISTED if (owner, name) not in METHODS]
SCENARIOS: dict[str, Callable[[type[Any], Callable[[type[Any]], type[Any]]], None]] = {}


def scenario(*owners: str, on: str = "") -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Register how to exercise a class; ``on`` names a concrete subclass to exercise instead."""

    def keep(run: Callable[..., None]) -> Callable[..., None]:
        for owner in owners:
            SCENARIOS[owner] = functools.partial(_exercise, run, on or owner)
        return run

    return keep


def _exercise(
    run: Callable[..., None], name: str, owner: type[Any], record: Callable[[type[Any]], Any]
) -> None:
    kind = owner if name == owner.__name__ else getattr(importlib.import_module(_HOMES[name]), name)
    run(record(kind))


_HOMES = {
    "VanillaHungarianBBoxIOUTracker": "detectron2.tracking",
    "RandomFlip": "detectron2.data.transforms",
    "RetinaNet": "detectron2.modeling",
    "StandardROIHeads": "detectron2.modeling",
}


def recorded(raw: Any, note: Callable[[], None]) -> Any:
    """The same attribute of a class, which also makes a note when it is called."""
    if isinstance(raw, property):
        return property(lambda self: (note(), raw.fget(self))[1])  # type: ignore[misc]
    inner = raw.__func__ if isinstance(raw, (staticmethod, classmethod)) else raw

    @functools.wraps(inner)
    def call(*args: Any, **kwargs: Any) -> Any:
        note()
        return inner(*args, **kwargs)

    return type(raw)(call) if isinstance(raw, (staticmethod, classmethod)) else call


@functools.cache
def calls_of(owner: str) -> set[str]:
    """Names of the listed methods that are called when the scenario of a class runs."""
    module, _, label = owner.rpartition(".")
    kind = getattr(importlib.import_module(module), label)
    called: set[str] = set()

    def record(cls: type[Any]) -> type[Any]:
        body = {
            name: recorded(inspect.getattr_static(cls, name), functools.partial(called.add, name))
            for where, name in METHODS
            if where == owner
        }
        return type(cls.__name__, (cls,), body)

    SCENARIOS[label](kind, record)
    return called


@pytest.mark.parametrize(("owner", "name"), METHODS, ids=lambda v: v.removeprefix("detectron2."))
def test_is_called(owner: str, name: str) -> None:
    assert name in calls_of(owner)


@pytest.mark.parametrize(("owner", "name"), FUNCTIONS, ids=lambda v: v.removeprefix("detectron2."))
def test_private_function_is_there(owner: str, name: str) -> None:
    assert hasattr(importlib.import_module(owner), name)


# ------------------------------------------------------------------ pictures


def _found(**fields: Any) -> Instances:
    found = Instances((50, 60), pred_boxes=Boxes(torch.tensor([[5.0, 5, 40, 30]])), scores=torch.ones(1))
    found.pred_classes = torch.tensor([0])
    for name, value in fields.items():
        found.set(name, value)
    return found


_PICTURE = np.zeros((50, 60, 3), np.uint8)


@scenario("Visualizer")
def draw(kind: type[Any]) -> None:
    from detectron2.utils.visualizer import ColorMode

    meta = MetadataCatalog.get("override_vis").set(
        thing_classes=["a"], thing_colors=[(9, 90, 200)], stuff_classes=["a"],
        keypoint_names=["a", "b"], keypoint_connection_rules=[("a", "b", (9, 9, 250))],
    )  # fmt: skip
    found = _found(pred_masks=torch.ones(1, 50, 60, dtype=torch.bool), pred_keypoints=torch.ones(1, 2, 3))
    for mode in ColorMode:
        kind(_PICTURE, meta, instance_mode=mode).draw_instance_predictions(found)
    kind(_PICTURE, meta).draw_sem_seg(torch.zeros(50, 60, dtype=torch.int64))
    forget("override_vis")


@scenario("VideoVisualizer")
def draw_video(kind: type[Any]) -> None:
    meta = MetadataCatalog.get("override_video").set(thing_classes=["a"])
    kind(meta).draw_instance_predictions(_PICTURE, _found())
    kind(meta).draw_instance_predictions(_PICTURE, _found(ID=[3]))
    forget("override_video")


@scenario("VisImage")
def draw_on(kind: type[Any]) -> None:
    assert kind(_PICTURE, 2.0).get_image().shape == (100, 120, 3)


# ------------------------------------------------------------------ trackers, schedules, samplers, augmentations


@scenario("BBoxIOUTracker")
@scenario("BaseHungarianTracker", on="VanillaHungarianBBoxIOUTracker")
def track(kind: type[Any]) -> None:
    tracker = kind(video_height=50, video_width=60, max_lost_frame_count=3, min_instance_period=0)
    assert tracker.update(_found()).ID == [0] == tracker.update(_found()).ID


@scenario("WarmupMultiStepLR", "WarmupCosineLR")
def schedule(kind: type[Any]) -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], 0.1)
    kind(optimizer, [5] if kind.__name__ == "WarmupMultiStepLR" else 9, warmup_factor=0.5, warmup_iters=2)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.05)


@scenario("TrainingSampler", "RandomSubsetTrainingSampler", "RepeatFactorTrainingSampler")
def sample(kind: type[Any]) -> None:
    size = {"RandomSubsetTrainingSampler": (4, 0.5), "RepeatFactorTrainingSampler": (torch.ones(4),)}
    assert 0 <= next(iter(kind(*size.get(kind.__name__, (4,))))) < 4


@scenario("Augmentation", "TransformGen", on="RandomFlip")
def augment(kind: type[Any]) -> None:
    from detectron2.data import transforms as T

    kind(prob=0.5)(T.AugInput(_PICTURE))


# ------------------------------------------------------------------ files, checkpoints, data, training


@scenario("ModelCatalogHandler", "Detectron2Handler")
def open_path(kind: type[Any]) -> None:
    from detectron2.utils.file_io import PathManager
    from detectron2.utils.file_io.registry import PathRegistry

    store, handler = PathRegistry(), kind()
    store.register_handler(handler)
    path = handler.PREFIX + "ImageNetPretrained/MSRA/R-50"
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        (file := Path(folder) / "weights").write_text("w")
        patch.setattr(PathManager, "get_local_path", lambda *args, **kwargs: str(file))
        patch.setattr(PathManager, "open", lambda *args, **kwargs: file.open())
        assert store.get_local_path(path) == str(file)
        with store.open(path) as opened:
            assert opened.read() == "w"


@scenario("DetectionCheckpointer")
def load(kind: type[Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        torch.save({"model": {"weight": torch.ones(1, 1)}}, f"{folder}/a.pth")
        model = nn.Linear(1, 1, bias=False)
        kind(model).load(f"{folder}/a.pth")
    assert model.weight.item() == 1


@scenario("FrozenBatchNorm2d")
def load_norm(kind: type[Any]) -> None:
    kind(2).load_state_dict(nn.BatchNorm2d(2).state_dict(), strict=False)


@scenario("DatasetMapper")
def map_record(kind: type[Any]) -> None:
    label = {"bbox": [2, 2, 20, 9], "bbox_mode": BoxMode.XYXY_ABS, "category_id": 0}
    with tempfile.TemporaryDirectory() as folder:
        Image.fromarray(_PICTURE).save(f"{folder}/a.png")
        record = {"file_name": f"{folder}/a.png", "height": 50, "width": 60, "annotations": [label]}
        mapped = kind(is_train=True, augmentations=[], image_format="BGR")(record)
    assert len(mapped["instances"]) == 1


@scenario("SimpleTrainer")
def train(kind: type[Any]) -> None:
    class Net(nn.Linear):
        def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"loss": super().forward(x).sum()}

    net = Net(1, 1)
    kind(net, [torch.ones(1, 1)] * 3, torch.optim.SGD(net.parameters(), 0.1)).train(0, 2)


# ------------------------------------------------------------------ evaluation


def _evaluate(kind: type[Any], found: Instances, suffix: str, **extra: Any) -> dict[str, Any]:
    label = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [5, 5, 35, 25], "area": 875, "iscrowd": 0}
    if "Rotated" in kind.__name__:
        label["bbox"] = [22.5, 17.5, 35, 25, 0]
    label["segmentation"] = [[5, 5, 40, 5, 40, 30, 5, 30]]
    picture = {"id": 1, "height": 50, "width": 60, "file_name": "a.png", **extra}
    content = {
        "images": [picture],
        "categories": [{"id": 1, "name": "a", "frequency": "f", "image_count": 1, "instance_count": 1}],
        "annotations": [label],
    }
    name = "override_lvis" if "LVIS" in kind.__name__ else "override_coco"
    with tempfile.TemporaryDirectory() as folder:
        (file := Path(folder) / "a.json").write_text(json.dumps(content))
        DatasetCatalog.register(name, list, overwrite=True)
        MetadataCatalog.get(name).set(
            json_file=str(file), thing_dataset_id_to_contiguous_id={1: 0}, evaluator_type=suffix
        )
        evaluator = kind(name, distributed=False, output_dir=folder)
        proposals = Instances((50, 60), proposal_boxes=Boxes(torch.tensor([[5.0, 5, 40, 30]])))
        proposals.objectness_logits = torch.ones(1)
        output = {"instances": found}
        if "Rotated" not in kind.__name__:
            output["proposals"] = proposals
        evaluator.reset()
        evaluator.process([{"image_id": 1}], [output])
        results = evaluator.evaluate()
    forget(name)
    return results


@scenario("COCOEvaluator", "RotatedCOCOEvaluator")
def judge(kind: type[Any]) -> None:
    found = _found(pred_masks=torch.ones(1, 50, 60, dtype=torch.bool))
    if "Rotated" in kind.__name__:
        found = _found(pred_boxes=RotatedBoxes(torch.tensor([[22.5, 17.5, 35, 25, 0]])))
    assert _evaluate(kind, found, "coco")["bbox"]["AP"] == pytest.approx(100)


@scenario("LVISEvaluator")
def judge_lvis(kind: type[Any]) -> None:
    extra = {"not_exhaustive_category_ids": [], "neg_category_ids": []}
    assert _evaluate(kind, _found(), "lvis", **extra)["bbox"]["AP"] == pytest.approx(100)


def test_evaluators_of_projects_replace_the_whole_evaluation() -> None:
    """As the evaluators of mask-classification projects do: judge result dicts by themselves."""
    from detectron2.evaluation import COCOEvaluator
    from detectron2.evaluation.coco_evaluation import _evaluate_predictions_on_coco

    class Own(COCOEvaluator):
        def _eval_predictions(self, predictions: Any, img_ids: Any = None) -> None:
            results = [dict(entry) for p in predictions for entry in p["instances"]]
            ids = {v: k for k, v in self._metadata.thing_dataset_id_to_contiguous_id.items()}
            for entry in results:
                entry["category_id"] = ids[entry["category_id"]]
            for task in self._tasks or self._tasks_from_predictions(results):
                judged = _evaluate_predictions_on_coco(self._coco_api, results, task, img_ids=img_ids)
                assert judged.eval["precision"].shape[:2] == (10, 101)
                self._results[task] = self._derive_coco_results(judged, task, class_names=["a"])

    masks = torch.zeros(1, 50, 60, dtype=torch.bool)
    masks[:, 5:30, 5:40] = True
    results = _evaluate(Own, _found(pred_masks=masks), "coco")
    assert results["bbox"]["AP"] == pytest.approx(100) and results["segm"]["AP"] > 90


# ------------------------------------------------------------------ models


def _learn(model: nn.Module, name: str) -> None:
    with EventStorage():
        assert model.train()([example(name, 96, 96, 3)])


def _predict(model: nn.Module) -> None:
    with torch.no_grad():
        model.eval()([image(96, 96)])


def _heads(kind: type[Any], name: str) -> nn.Module:
    """A model whose heads are of the given kind, trained for a step and asked once."""
    cfg = small_config(name)
    model = small_model.__wrapped__(name)
    model.roi_heads = kind(cfg, model.backbone.output_shape())
    _learn(model, name)
    _predict(model)
    return model


@scenario("StandardROIHeads")
def heads(kind: type[Any]) -> None:
    _heads(kind, "mask_rcnn")
    _heads(kind, "keypoint_rcnn")


@scenario("CascadeROIHeads")
def cascade(kind: type[Any]) -> None:
    _heads(kind, "cascade")


@scenario("RROIHeads")
def rotated(kind: type[Any]) -> None:
    _heads(kind, "rotated")


@scenario("Res5ROIHeads")
def res5(kind: type[Any]) -> None:
    _heads(kind, "c4")


@scenario("ROIHeads", on="StandardROIHeads")
def sample_proposals(kind: type[Any]) -> None:
    _heads(kind, "mask_rcnn")


@scenario("RPN")
def propose(kind: type[Any]) -> None:
    model = small_model.__wrapped__("rpn")
    model.proposal_generator = kind(small_config("rpn"), model.backbone.output_shape())
    _learn(model, "rpn")


@scenario("GeneralizedRCNN")
def detect(kind: type[Any]) -> None:
    model = kind(small_config("faster_rcnn"))
    _predict(model)


@scenario("ProposalNetwork")
def propose_only(kind: type[Any]) -> None:
    _predict(kind(small_config("rpn")))


@scenario("DenseDetector", on="RetinaNet")
def detect_densely(kind: type[Any]) -> None:
    _predict(kind(small_config("retinanet")))


@scenario("GeneralizedRCNNWithTTA")
def detect_again(kind: type[Any]) -> None:
    from detectron2.modeling.test_time_augmentation import DatasetMapperTTA

    versions = DatasetMapperTTA([96], 1000, flip=True)
    item = {**image(96, 96), "height": 96, "width": 96}
    with torch.no_grad():
        kind(small_config("mask_rcnn"), small_model("mask_rcnn"), versions)([item])


@scenario("ViT", "MViT", "SwinTransformer")
def transformer(kind: type[Any]) -> None:
    options: dict[str, dict[str, Any]] = {
        "ViT": {"img_size": 32, "depth": 1, "num_heads": 1},
        "MViT": {"depth": 1, "num_heads": 1, "last_block_indexes": (0,), "out_features": ("scale2",)},
        "SwinTransformer": {"depths": (1,), "num_heads": (1,), "out_indices": (0,)},
    }
    kind(embed_dim=16, **options[kind.__name__])
