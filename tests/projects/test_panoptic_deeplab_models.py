"""Panoptic-DeepLab: small whole models, trained and evaluated."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from detectron2.data import DatasetCatalog, MetadataCatalog, build_detection_train_loader
from detectron2.engine import DefaultTrainer
from detectron2.modeling import build_model
from detectron2.projects import deeplab
from detectron2.projects.panoptic_deeplab import PanopticDeepLab, PanopticDeeplabDatasetMapper
from detectron2.projects.panoptic_deeplab.target_generator import PanopticDeepLabTargetGenerator

sys.path.insert(0, str(Path(__file__).parent))
from _panoptic_scenes import DATASET, R52, R52_SEPARABLE, THINGS, config, record_on_disk, scene


@pytest.fixture(autouse=True)
def metadata() -> Iterator[None]:
    MetadataCatalog.get(DATASET).set(
        thing_dataset_id_to_contiguous_id={30: 3, 40: 4}, label_divisor=1000, ignore_label=255
    )
    yield
    MetadataCatalog.remove(DATASET)


def training_input(height: int, width: int, empty: bool = False) -> dict[str, Any]:
    panoptic, info = scene(height, width)
    generator = PanopticDeepLabTargetGenerator(255, THINGS, 4, True, 200, 3)
    targets = generator(panoptic * 0, []) if empty else generator(panoptic, info)
    return {**picture(height, width), **targets}


def picture(height: int, width: int, seed: int = 0) -> dict[str, Any]:
    return {"image": torch.rand(3, height, width, generator=torch.Generator().manual_seed(seed)) * 255}


def lively_model(*options: Any) -> PanopticDeepLab:
    """A model in evaluation whose maps vary."""
    torch.manual_seed(0)
    model: PanopticDeepLab = build_model(config(R52, *options)).eval()
    instance: Any = model.ins_embed_head
    for layer in (model.sem_seg_head.predictor, instance.center_predictor, instance.offset_predictor):
        nn.init.normal_(layer.weight)  # type: ignore[union-attr,arg-type]
    nn.init.ones_(instance.center_predictor.bias)
    with torch.no_grad():
        scores, _ = model.sem_seg_head(model.backbone(model._make_batch([picture(64, 96, 1)]).tensor))
        model.sem_seg_head.predictor.bias -= scores.mean(dim=(0, 2, 3))  # type: ignore[union-attr,operator]
    return model


@pytest.mark.parametrize(
    ("name", "options"),
    [
        (R52, ()),
        (R52_SEPARABLE, ("MODEL.PANOPTIC_DEEPLAB.SIZE_DIVISIBILITY", 64)),
        (R52, ("MODEL.SEM_SEG_HEAD.LOSS_TYPE", "cross_entropy")),  # crashes in Detectron2
    ],
)
def test_every_parameter_learns(name: str, options: tuple[Any, ...]) -> None:
    torch.manual_seed(0)
    model = build_model(config(name, *options))
    losses = model([training_input(64, 96), training_input(64, 80, empty=True)])
    assert set(losses) == {"loss_sem_seg", "loss_center", "loss_offset"}
    sum(losses.values()).backward()
    assert all(loss.isfinite() for loss in losses.values())
    assert [n for n, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()] == []


def test_images_without_objects_give_no_loss_on_centers_and_offsets() -> None:
    torch.manual_seed(0)
    model = build_model(config(R52))
    losses = model([training_input(64, 64, empty=True)] * 2)
    sum(losses.values()).backward()
    assert all(loss == 0 for loss in losses.values())
    assert not any(p.grad.any() for p in model.parameters() if p.grad is not None)


def test_missing_targets_are_named() -> None:
    model = build_model(config(R52))
    item = training_input(64, 64)
    del item["center"]
    with pytest.raises(ValueError, match="needs 'center' in every input"):
        model([item, item])
    with pytest.raises(ValueError, match="needs targets and weights"):
        model.ins_embed_head(model.backbone(torch.rand(2, 3, 64, 64)))
    with pytest.raises(ValueError, match=r"images must be \[3, H, W\]"):
        model([{"image": torch.rand(1, 64, 64)}])


def test_batched_equals_single() -> None:
    model = lively_model("MODEL.PANOPTIC_DEEPLAB.SIZE_DIVISIBILITY", 64)
    inputs = [picture(64, 96, 1), picture(48, 80, 2)]
    inputs[1]["height"], inputs[1]["width"] = 96, 160
    with torch.no_grad():
        features = model.backbone(model._make_batch(inputs[1:]).tensor)
        together = model(inputs[:1] * 2)
        alone = [model([item])[0] for item in inputs]
    assert features["res2"].shape[2:] == (16, 32)  # 64 x 128 at stride 4
    torch.testing.assert_close(together[1]["sem_seg"], alone[0]["sem_seg"], rtol=1e-4, atol=1e-4)
    for result, size in zip(alone, ((64, 96), (96, 160))):
        segments, info = result["panoptic_seg"]
        instances = result["instances"]
        assert info is None
        assert segments.shape == result["sem_seg"].shape[1:] == instances.image_size == size
        assert len(instances) > 0
        things = [v for v in segments.unique().tolist() if v // 1000 in THINGS]
        assert [v // 1000 for v in things] == instances.pred_classes.tolist()


def test_offsets_are_in_pixels_of_the_result() -> None:
    """Twice the size: the same objects. Detectron2 leaves offsets in pixels of the input."""
    model = lively_model()
    panoptic, info = scene(64, 96)
    info[4]["iscrowd"] = 0
    targets = PanopticDeepLabTargetGenerator(1, THINGS, sigma=3)(panoptic, info)
    scores = nn.functional.one_hot(targets["sem_seg"], 5).permute(2, 0, 1).float()
    maps = (scores, targets["center"][None], targets["offset"])
    once = model._result(*maps, {}, (64, 96))["panoptic_seg"][0]
    twice = model._result(*maps, {"height": 128, "width": 192}, (64, 96))["panoptic_seg"][0]
    # Each object has one number in either result, which may be another, since centres are counted by their rows.
    pairs, counts = torch.unique(torch.stack([once, twice[::2, ::2]]).flatten(1), dim=1, return_counts=True)
    best = {value: max(counts[pairs[0] == value].tolist()) for value in once.unique().tolist()}
    assert len(best) == 7
    assert sum(best.values()) > 0.98 * once.numel()


def test_options_of_results() -> None:
    image = [picture(64, 64)]
    with torch.no_grad():
        quiet = lively_model("MODEL.PANOPTIC_DEEPLAB.PREDICT_INSTANCES", False)(image)
        none = lively_model("MODEL.PANOPTIC_DEEPLAB.CENTER_THRESHOLD", 1e9)(image)
        fast = lively_model("MODEL.PANOPTIC_DEEPLAB.BENCHMARK_NETWORK_SPEED", True)(image)
    assert set(quiet[0]) == {"sem_seg", "panoptic_seg"}
    assert len(none[0]["instances"]) == 0
    assert fast == []
    with pytest.raises(ValueError, match="must be the same"):
        build_model(config(R52, "MODEL.SEM_SEG_HEAD.USE_DEPTHWISE_SEPARABLE_CONV", True))


def test_training_program_runs(tmp_path: Path) -> None:
    """As Detectron2's program does it: its own mapper and schedule, all else by the trainer."""

    class Trainer(DefaultTrainer):
        @classmethod
        def build_train_loader(cls, cfg: Any) -> Any:
            return build_detection_train_loader(cfg, mapper=PanopticDeeplabDatasetMapper(cfg))

        @classmethod
        def build_lr_scheduler(cls, cfg: Any, optimizer: Any) -> Any:
            return deeplab.build_lr_scheduler(cfg, optimizer)

    record = record_on_disk(tmp_path)
    DatasetCatalog.register(DATASET, lambda: [record, record])
    options = [
        "SOLVER.MAX_ITER",
        2,
        "SOLVER.IMS_PER_BATCH",
        2,
        "DATALOADER.NUM_WORKERS",
        0,
        "DATASETS.TEST",
        [],
    ]
    options += ["INPUT.CROP.ENABLED", True, "INPUT.CROP.SIZE", [64, 96], "INPUT.MIN_SIZE_TRAIN", [64, 80]]
    try:
        trainer = Trainer(config(R52, *options, "OUTPUT_DIR", str(tmp_path / "out")))
        trainer.train()
    finally:
        DatasetCatalog.remove(DATASET)
    assert isinstance(trainer.scheduler, deeplab.lr_scheduler.WarmupPolyLR)
    assert (tmp_path / "out" / "model_final.pth").is_file()
