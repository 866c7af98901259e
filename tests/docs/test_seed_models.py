"""What readers of tutorials on models, training, evaluation and yacs configs were told works, one test for each statement."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import CfgNode, get_cfg
from detectron2.data import DatasetMapper, build_detection_test_loader, build_detection_train_loader
from detectron2.data.catalog import forget
from detectron2.data.datasets import register_coco_instances
from detectron2.engine import DefaultPredictor, DefaultTrainer, HookBase, SimpleTrainer, default_setup, hooks
from detectron2.evaluation import COCOEvaluator, DatasetEvaluator, DatasetEvaluators, inference_on_dataset
from detectron2.modeling import (
    BACKBONE_REGISTRY,
    ROI_HEADS_REGISTRY,
    Backbone,
    FastRCNNOutputLayers,
    GeneralizedRCNNWithTTA,
    ShapeSpec,
    StandardROIHeads,
    build_backbone,
    build_model,
    build_roi_heads,
)
from detectron2.structures import BitMasks, Boxes, ImageList, Instances
from detectron2.utils.events import EventStorage, get_event_storage

from .test_pages import extension

small = extension("small")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("seed")
    small.toys(str(path / "toys"), train=4, val=2)
    for part in ("train", "val"):
        register_coco_instances(
            f"seed_{part}", {}, str(path / f"toys/{part}.json"), str(path / f"toys/{part}")
        )
    yield path
    for part in ("train", "val"):
        forget(f"seed_{part}")


@pytest.fixture
def cfg(folder: Path, tmp_path: Path) -> CfgNode:
    cfg = small.config()
    cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = ("seed_train",), ("seed_val",)
    cfg.OUTPUT_DIR = str(tmp_path / "output")
    return cfg


@pytest.fixture(scope="module")
def model() -> nn.Module:
    return build_model(small.config())


def inputs(**more: object) -> list[dict[str, Any]]:
    return [{"image": torch.zeros(3, 64, 80), **more}]


def with_labels() -> list[dict[str, Any]]:
    target = Instances((64, 80))
    target.gt_boxes = Boxes(torch.tensor([[10.0, 10.0, 40.0, 40.0]]))
    target.gt_classes = torch.tensor([1])
    target.gt_masks = BitMasks(torch.ones(1, 64, 80, dtype=torch.bool))
    return inputs(instances=target)


# ------------------------------------------------------------------ models
def test_models_and_parts_are_built_from_a_config_with_random_weights(cfg: CfgNode, model: nn.Module) -> None:
    assert isinstance(model, nn.Module)
    other = build_model(cfg)
    assert not torch.equal(other.backbone.fpn_lateral2.weight, model.backbone.fpn_lateral2.weight)
    backbone = build_backbone(cfg)
    assert isinstance(build_roi_heads(cfg, backbone.output_shape()), StandardROIHeads)


def test_a_checkpoint_is_saved_and_loaded_by_name(model: nn.Module, cfg: CfgNode, tmp_path: Path) -> None:
    DetectionCheckpointer(model, save_dir=str(tmp_path)).save("model_999")
    other = build_model(cfg)
    DetectionCheckpointer(other).load(str(tmp_path / "model_999.pth"))
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), other.state_dict().values()))


def test_training_needs_an_event_storage_and_returns_scalar_losses(model: nn.Module) -> None:
    model.train()
    with pytest.raises((AssertionError, RuntimeError)):
        model(with_labels())
    with EventStorage():
        losses = model(with_labels())
    assert losses and all(value.ndim == 0 for value in losses.values())


def test_inference_returns_a_dict_for_each_image_at_the_requested_size(model: nn.Module) -> None:
    model.eval()
    with torch.no_grad():
        (plain,), (sized,) = model(inputs()), model(inputs(height=128, width=160))
    assert plain["instances"].image_size == (64, 80) and sized["instances"].image_size == (128, 160)
    assert {"pred_boxes", "scores", "pred_classes", "pred_masks"} <= set(plain["instances"].get_fields())


def test_the_predictor_takes_one_image(cfg: CfgNode, folder: Path) -> None:
    import numpy as np

    found = DefaultPredictor(cfg)(np.zeros((96, 128, 3), np.uint8))
    assert found["instances"].image_size == (96, 128)


def test_the_default_mapper_and_loader_make_what_models_take(cfg: CfgNode) -> None:
    batch = next(iter(build_detection_train_loader(cfg)))
    assert isinstance(batch, list) and isinstance(batch[0], dict)
    assert {"image", "height", "width", "instances"} <= batch[0].keys() and batch[0]["image"].ndim == 3
    assert {"gt_boxes", "gt_classes", "gt_masks"} <= set(batch[0]["instances"].get_fields())
    assert DatasetMapper(cfg, is_train=False).is_train is False


def test_a_model_runs_in_parts_up_to_the_features_of_masks(model: nn.Module) -> None:
    model.eval()
    images = ImageList.from_tensors([torch.zeros(3, 64, 96)])
    with torch.no_grad():
        features = model.backbone(images.tensor)
        proposals, _ = model.proposal_generator(images, features)
        instances, _ = model.roi_heads(images, features, proposals)
        mask_features = [features[f] for f in model.roi_heads.in_features]
        pooled = model.roi_heads.mask_pooler(mask_features, [x.pred_boxes for x in instances])
    assert pooled.shape[1:] == (16, 14, 14)


def test_a_forward_hook_sees_inside(model: nn.Module) -> None:
    seen: list[torch.Tensor] = []
    handle = model.eval().backbone.bottom_up.register_forward_hook(
        lambda module, given, out: seen.append(out["res2"])
    )
    with torch.no_grad():
        model(inputs())
    handle.remove()
    assert seen[0].shape[1] == 64


# ------------------------------------------------------------------ own parts
def test_a_registered_backbone_is_named_in_the_config(cfg: CfgNode) -> None:
    class SeedBackbone(Backbone):
        def __init__(self, cfg: CfgNode, input_shape: ShapeSpec) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(3, 64, kernel_size=7, stride=16, padding=3)

        def forward(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"conv1": self.conv1(image)}

        def output_shape(self) -> dict[str, ShapeSpec]:
            return {"conv1": ShapeSpec(channels=64, stride=16)}

    BACKBONE_REGISTRY.register(SeedBackbone)
    try:
        cfg.MODEL.BACKBONE.NAME = "SeedBackbone"
        assert build_backbone(cfg).output_shape()["conv1"].stride == 16
    finally:
        del BACKBONE_REGISTRY._obj_map["SeedBackbone"]


def test_heads_take_a_box_predictor_as_an_argument(cfg: CfgNode, model: nn.Module) -> None:
    class MyOutput(FastRCNNOutputLayers):
        pass

    shape = model.backbone.output_shape()
    mine = MyOutput(cfg, model.roi_heads.box_head.output_shape)
    assert StandardROIHeads(cfg, shape, box_predictor=mine).box_predictor is mine

    class SeedHeads(StandardROIHeads):
        def __init__(self, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> None:
            super().__init__(cfg, input_shape, box_predictor=mine)

    ROI_HEADS_REGISTRY.register(SeedHeads)
    try:
        cfg.MODEL.ROI_HEADS.NAME = "SeedHeads"
        assert build_roi_heads(cfg, shape).box_predictor is mine
    finally:
        del ROI_HEADS_REGISTRY._obj_map["SeedHeads"]


# ------------------------------------------------------------------ training
def test_hooks_run_around_the_training_and_each_step(capsys: pytest.CaptureFixture[str]) -> None:
    order: list[str] = []

    class Order(HookBase):
        def __getattribute__(self, name: str) -> Any:
            if name in ("before_train", "before_step", "after_step", "after_train"):
                order.append(name)
            return super().__getattribute__(name)

    class HelloHook(HookBase):
        def after_step(self) -> None:
            if self.trainer.iter % 100 == 0:
                print(f"Hello at iteration {self.trainer.iter}!")

    class Tiny(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(1))

        def forward(self, batch: object) -> dict[str, torch.Tensor]:
            if self.training:
                get_event_storage().put_scalar("some_accuracy", 0.5)
            return {"loss": self.weight.sum()}

    tiny = Tiny()
    trainer = SimpleTrainer(tiny, [[{}]] * 2, torch.optim.SGD(tiny.parameters(), 0.1))
    trainer.register_hooks([Order(), HelloHook()])
    trainer.train(0, 2)
    steps = ["before_step", "after_step"]
    assert [n for n in order if n in {"before_train", "after_train", *steps}] == [
        "before_train",
        *steps,
        *steps,
        "after_train",
    ]
    assert capsys.readouterr().out == "Hello at iteration 0!\n"
    assert trainer.storage.latest()["some_accuracy"][0] == 0.5


class Counter(DatasetEvaluator):
    def reset(self) -> None:
        self.count = 0

    def process(self, inputs: Any, outputs: Any) -> None:
        for output in outputs:
            self.count += len(output["instances"])

    def evaluate(self) -> dict[str, int]:
        return {"count": self.count}


class Trainer(DefaultTrainer):
    @classmethod
    def build_evaluator(
        cls, cfg: CfgNode, dataset_name: str, output_folder: str | None = None
    ) -> DatasetEvaluator:
        return Counter()

    @classmethod
    def test_with_TTA(cls, cfg: CfgNode, model: nn.Module) -> dict[str, Any]:
        model = GeneralizedRCNNWithTTA(cfg, model)
        found = cls.test(cfg, model, [cls.build_evaluator(cfg, name) for name in cfg.DATASETS.TEST])
        return {key + "_TTA": value for key, value in found.items()}


def test_a_trainer_is_overridden_and_evaluates_with_test_time_augmentation(cfg: CfgNode) -> None:
    cfg.TEST.AUG.ENABLED, cfg.TEST.AUG.MIN_SIZES, cfg.TEST.AUG.FLIP, cfg.SOLVER.MAX_ITER = (
        True,
        (64,),
        False,
        1,
    )
    default_setup(cfg, None)
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=False)
    found: list[dict[str, Any]] = []

    def with_augmentation() -> dict[str, Any]:
        found.append(trainer.test_with_TTA(cfg, trainer.model))
        return found[-1]

    trainer.register_hooks([hooks.EvalHook(0, with_augmentation)])
    assert isinstance(trainer.train()["count"], int)
    assert "count_TTA" in found[0]


# ------------------------------------------------------------------ evaluation
def test_evaluators_run_by_hand_and_several_in_one_pass(model: nn.Module, cfg: CfgNode) -> None:
    model.eval()
    loader = build_detection_test_loader(cfg, "seed_val")
    evaluator = Counter()
    evaluator.reset()
    with torch.no_grad():
        for batch in loader:
            evaluator.process(batch, model(batch))
    by_hand = evaluator.evaluate()
    both = inference_on_dataset(model, loader, DatasetEvaluators([COCOEvaluator("seed_val"), Counter()]))
    assert both["count"] == by_hand["count"] and {"bbox", "segm"} <= both.keys()


# ------------------------------------------------------------------ yacs configs
def test_a_yacs_config_is_extended_merged_printed_and_saved(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text("SOLVER: {BASE_LR: 0.5, MAX_ITER: 7}\n")
    (tmp_path / "my_cfg.yaml").write_text("_BASE_: base.yaml\nSOLVER: {MAX_ITER: 9}\n")
    cfg = get_cfg()
    cfg.MY_KEY = 3
    cfg.merge_from_file(str(tmp_path / "my_cfg.yaml"))
    assert (cfg.SOLVER.BASE_LR, cfg.SOLVER.MAX_ITER, cfg.MY_KEY) == (0.5, 9, 3)
    cfg.merge_from_list(["MODEL.WEIGHTS", "weights.pth", "INPUT.MIN_SIZE_TEST", "1000"])
    assert (cfg.MODEL.WEIGHTS, cfg.INPUT.MIN_SIZE_TEST) == ("weights.pth", 1000)
    (tmp_path / "output.yaml").write_text(cfg.dump())
    again = get_cfg()
    again.MY_KEY = 0
    again.merge_from_file(str(tmp_path / "output.yaml"))
    assert (again.SOLVER, again.INPUT, again.MY_KEY) == (cfg.SOLVER, cfg.INPUT, 3)
