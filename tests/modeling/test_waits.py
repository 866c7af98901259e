"""Every architecture on a pretend accelerator: no tensor of the host among those of the device, and few waits for it.

``docs/performance.md`` has the table that these tests check; ``python tests/modeling/test_waits.py`` prints it anew.
"""

from __future__ import annotations

import copy
import re
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from detectron2.utils.events import EventStorage

TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS), *(str(TESTS / part) for part in ("modeling", "modeling/backbone", "projects"))]
import _mask2former_models  # noqa: E402
import _mask_scenes  # noqa: E402
import _maskdino_models  # noqa: E402
import _models  # noqa: E402
import _panoptic_scenes  # noqa: E402
import _point_models  # noqa: E402
import densepose_samples  # noqa: E402
import test_deeplab  # noqa: E402
import test_densepose_models  # noqa: E402
import test_dino  # noqa: E402
import test_eva02  # noqa: E402
import test_panoptic_deeplab_models  # noqa: E402
import test_tensormask  # noqa: E402
import test_transformers  # noqa: E402
import test_tridentnet  # noqa: E402
import test_zoo_models  # noqa: E402
from pretend_device import PretendDevice  # noqa: E402

import detectron2.modeling as m  # noqa: E402
from detectron2 import model_zoo  # noqa: E402
from detectron2.modeling import FPN, build_model  # noqa: E402
from detectron2.modeling.backbone.fpn import LastLevelMaxPool  # noqa: E402
from detectron2.modeling.backbone.regnet import RegNet, ResBottleneckBlock, SimpleStem  # noqa: E402
from detectron2.modeling.proposal_generator.proposal_utils import find_top_rpn_proposals  # noqa: E402
from detectron2.projects.rethinking_batchnorm import (  # noqa: E402
    BatchNormBatchStat,
    RetinaNetHead_SharedTrainingBN,
)

PAGE = TESTS.parent / "docs" / "performance.md"
Inputs = list[dict[str, Any]]
Make = Callable[[], tuple[nn.Module, Inputs]]
QUICK = ("Faster R-CNN FPN", "Mask R-CNN FPN", "RetinaNet", "Mask R-CNN FPN, fast form")


def _batch(name: str) -> Inputs:
    return [_models.example(name, 96, 128, 3, seed) for seed in (0, 1)]


def _core(name: str) -> Make:
    return lambda: (copy.deepcopy(_models.small_model(name)), _batch(name))


def _changed(name: str, *options: Any) -> Make:
    return lambda: (build_model(_models.small_config(name, *options)), _batch(name))


def _on(bottom_up: Callable[..., nn.Module], outputs: list[str]) -> Make:
    """Mask R-CNN with FPN on another backbone."""

    def make() -> tuple[nn.Module, Inputs]:
        model, batch = _core("mask_rcnn")()
        model.backbone = FPN(bottom_up(out_features=outputs), outputs, 32, top_block=LastLevelMaxPool())
        return model, batch

    return make


def _regnet(**options: Any) -> nn.Module:
    return RegNet(
        stem_class=SimpleStem,
        stem_width=8,
        block_class=ResBottleneckBlock,
        depth=4,
        w_a=12,
        w_0=16,
        w_m=1.5,
        group_width=8,
        se_ratio=0.25,
        **options,
    )


def _fast_rcnn() -> tuple[nn.Module, Inputs]:
    model, batch = _core("faster_rcnn")()
    model.proposal_generator = None
    return model, [test_zoo_models.with_proposals(item) for item in batch]


def _dilated() -> tuple[nn.Module, Inputs]:
    cfg = model_zoo.get_config("COCO-Detection/faster_rcnn_R_50_DC5_1x.yaml")
    for pair in (*_models._SMALL, *_models._C4):
        cfg.merge_from_list(pair)
    return build_model(cfg), _batch("faster_rcnn")


def _federated() -> tuple[nn.Module, Inputs]:
    model, batch = _changed("mask_rcnn", "MODEL.ROI_BOX_HEAD.USE_SIGMOID_CE", True)()
    predictor = model.roi_heads.box_predictor
    predictor.use_fed_loss, predictor.fed_loss_num_classes = True, 4
    predictor.register_buffer("fed_loss_cls_weights", torch.ones(5), persistent=False)
    return model, batch


def _shared_norms() -> tuple[nn.Module, Inputs]:
    model, batch = _changed("retinanet", "MODEL.RETINANET.NORM", "BN")()
    model.head.__class__ = RetinaNetHead_SharedTrainingBN
    return model, batch


def _batch_statistics() -> tuple[nn.Module, Inputs]:
    names = [f"MODEL.ROI_{kind}_HEAD.NORM" for kind in ("BOX", "MASK")]
    model, batch = _changed("mask_rcnn", names[0], "BN", names[1], "BN", "MODEL.ROI_BOX_HEAD.NUM_CONV", 1)()
    for module in model.roi_heads.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.__class__ = BatchNormBatchStat
    return model, batch


def _fast(name: str) -> Make:
    def make() -> tuple[nn.Module, Inputs]:
        model, batch = _core(name)()
        model.fixed_shapes = True
        return model, batch

    return make


def _points(path: str, points: int = 0) -> Make:
    return lambda: (
        _point_models.small_model(path),
        [_point_models.example(96, 128, 3, seed, points) for seed in (0, 1)],
    )


def _masks(module: Any, path: str) -> Make:
    return lambda: (module.model_of(path), [_mask_scenes.labelled(64, 96, 3, seed) for seed in (0, 1)])


def _detr(path: str) -> Make:
    box = [5.0, 5.0, 40.0, 50.0]
    return lambda: (
        test_dino._small(path),
        [test_dino._image(64, 96, [box], [3]), test_dino._image(80, 64, [box], [1])],
    )


def _trident() -> tuple[nn.Module, Inputs]:
    boxes = [[5.0, 5.0, 40.0, 50.0], [20.0, 10.0, 70.0, 60.0]]
    return build_model(test_tridentnet.small_cfg()), [
        test_tridentnet.labelled(seed, boxes) for seed in (0, 1)
    ]


def _eva02() -> tuple[nn.Module, Inputs]:
    return test_eva02.small_model(), [test_eva02.picture(48, 64, 3), test_eva02.picture(64, 48, 3)]


def _panoptic_deeplab() -> tuple[nn.Module, Inputs]:
    test_panoptic_deeplab_models.MetadataCatalog.get(_panoptic_scenes.DATASET).set(
        thing_dataset_id_to_contiguous_id={30: 3, 40: 4}, label_divisor=1000, ignore_label=255
    )
    make = test_panoptic_deeplab_models.training_input
    return test_panoptic_deeplab_models.lively_model(), [make(64, 96), make(64, 96)]


def _deeplab(name: str) -> Make:
    return lambda: (
        build_model(test_deeplab.config(name)),
        [test_deeplab.picture(64, 96, seed) for seed in (0, 1)],
    )


def _densepose(kind: str) -> Make:
    samples = densepose_samples

    def make() -> tuple[nn.Module, Inputs]:
        model = test_densepose_models.build(test_densepose_models.chart_cfg(kind))
        return model, [samples.labelled(seed, [samples.chart_annotation(seed)]) for seed in (1, 2)]

    return make


def _embeddings() -> tuple[nn.Module, Inputs]:
    samples = densepose_samples
    with tempfile.TemporaryDirectory() as folder:
        samples.make_mesh(Path(folder), "waiting")
        model = test_densepose_models.build(samples.cse_cfg("waiting"))
        marks = [samples.vertex_annotation(seed, "waiting", 10) for seed in (1, 2)]
        return model, [samples.labelled(seed, [mark]) for seed, mark in enumerate(marks)]


def _tensormask() -> tuple[nn.Module, Inputs]:
    return build_model(test_tensormask.small_cfg()), [
        test_tensormask.labelled(seed, 2, "bitmask") for seed in (0, 1)
    ]


_DEFORMED = [value for pair in _models._C4 for value in pair]
_DEFORMED += ["MODEL.RESNETS.DEFORM_ON_PER_STAGE", [False, True, True, True]]
MODELS: dict[str, Make] = {
    "Faster R-CNN FPN": _core("faster_rcnn"),
    "Mask R-CNN FPN": _core("mask_rcnn"),
    "Faster R-CNN FPN, fast form": _fast("faster_rcnn"),
    "Mask R-CNN FPN, fast form": _fast("mask_rcnn"),
    "Cascade Mask R-CNN FPN, fast form": _fast("cascade"),
    "Keypoint R-CNN FPN, fast form": _fast("keypoint_rcnn"),
    "Mask R-CNN C4": _core("c4"),
    "Faster R-CNN DC5": _dilated,
    "Fast R-CNN FPN": _fast_rcnn,
    "Keypoint R-CNN FPN": _core("keypoint_rcnn"),
    "Cascade Mask R-CNN FPN": _core("cascade"),
    "Panoptic FPN": _core("panoptic"),
    "Semantic FPN": _core("semantic"),
    "RetinaNet": _core("retinanet"),
    "FCOS": _core("fcos"),
    "RPN": _core("rpn"),
    "Rotated Faster R-CNN": _core("rotated"),
    "ViTDet Mask R-CNN": _core("vitdet"),
    "Swin Mask R-CNN": _core("swin"),
    "MViT Mask R-CNN": _on(test_transformers.small_mvit, [f"scale{i}" for i in (2, 3, 4, 5)]),
    "RegNet Mask R-CNN": _on(_regnet, [f"s{i}" for i in (1, 2, 3, 4)]),
    "Deformable Mask R-CNN": _changed("mask_rcnn", *_DEFORMED),
    "Mask R-CNN FPN, federated loss": _federated,
    "Mask R-CNN FPN, batch statistics": _batch_statistics,
    "RetinaNet, shared norms": _shared_norms,
    "PointRend": _points(_point_models.POINTREND),
    "PointRend semantic": _points(_point_models.SEMANTIC),
    "Implicit PointRend": _points(_point_models.IMPLICIT),
    "Implicit PointSup": _points(_point_models.IMPLICIT_POINT_SUP, points=4),
    "PointSup": _points(_point_models.POINT_SUP, points=4),
    "TridentNet": _trident,
    "TensorMask": _tensormask,
    "Panoptic-DeepLab": _panoptic_deeplab,
    "DeepLabV3": _deeplab(test_deeplab.V3),
    "DeepLabV3+": _deeplab(test_deeplab.V3_PLUS),
    "DensePose": _densepose("plain"),
    "DensePose, DeepLab head and confidences": _densepose("deeplab confidence"),
    "DensePose CSE": _embeddings,
    "DINO": _detr(test_dino.MODELS[0]),
    "Deformable DETR": _detr(test_dino.MODELS[1]),
    "Deformable DETR, two stages": _detr(test_dino.MODELS[2]),
    "EVA-02": _eva02,
    "Mask2Former instance": _masks(_mask2former_models, _mask2former_models.INSTANCE),
    "Mask2Former semantic": _masks(_mask2former_models, _mask2former_models.SEMANTIC),
    "Mask2Former panoptic": _masks(_mask2former_models, _mask2former_models.PANOPTIC),
    "MaskDINO instance": _masks(_maskdino_models, _maskdino_models.INSTANCE),
    "MaskDINO semantic": _masks(_maskdino_models, _maskdino_models.SEMANTIC),
    "MaskDINO panoptic": _masks(_maskdino_models, _maskdino_models.PANOPTIC),
}


def measure(name: str) -> dict[str, int]:
    """Train one step on two images and predict for them; return the waits and the operators launched by each."""
    torch.manual_seed(0)
    model, batch = MODELS[name]()
    with PretendDevice() as device:
        device.put(model)
        device.reset()
        with EventStorage():
            losses = model.train()(batch)
        sum(losses.values()).backward()
        train = (device.waits.total(), device.operators)
        assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
        device.reset()
        with torch.no_grad():
            model.eval()(batch)
        predict = (device.waits.total(), device.operators)
    return dict(zip(COLUMNS, (train[0], predict[0], train[1], predict[1])))


# Used by no config of the package, and made of parts that others are made of.
_LIKE_OTHERS = {"PointRendROIHeads", "TridentStandardROIHeads"}
COLUMNS = ("train waits", "predict waits", "train operators", "predict operators")


def recorded() -> dict[str, dict[str, int]]:
    """Read the table of the page."""
    rows = re.findall(
        r"^\| ([^|]+?) \| (\d+) \| (\d+) \| (\d+) \| (\d+) \|", PAGE.read_text("utf-8"), re.MULTILINE
    )
    return {name: dict(zip(COLUMNS, map(int, numbers))) for name, *numbers in rows}


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=() if n in QUICK else pytest.mark.slow, id=n) for n in MODELS]
)
def test_waits_and_operators_are_those_of_the_page(name: str) -> None:
    found, written = measure(name), recorded()[name]
    for column in COLUMNS[:2]:
        assert found[column] == written[column], f"{column}: correct the table if it fell; a rise is a fault"
    for column in COLUMNS[2:]:  # these differ a little between versions of torch
        assert found[column] <= 1.1 * written[column], column


def test_the_fast_form_hardly_waits() -> None:
    for name in ("Faster R-CNN FPN", "Mask R-CNN FPN", "Cascade Mask R-CNN FPN", "Keypoint R-CNN FPN"):
        fast = recorded()[f"{name}, fast form"]
        assert (fast["train waits"], fast["predict waits"]) == (0, 1)


def test_the_page_has_every_architecture() -> None:
    assert set(recorded()) == set(MODELS)


@pytest.mark.slow
def test_the_models_have_every_registered_architecture_and_head() -> None:
    seen = {kind for make in MODELS.values() for part in make()[0].modules() for kind in type(part).__mro__}
    registries = [
        m.META_ARCH_REGISTRY,
        m.PROPOSAL_GENERATOR_REGISTRY,
        m.ROI_HEADS_REGISTRY,
        m.ROI_BOX_HEAD_REGISTRY,
    ]
    registries += [m.ROI_MASK_HEAD_REGISTRY, m.ROI_KEYPOINT_HEAD_REGISTRY, m.SEM_SEG_HEADS_REGISTRY]
    missing = {
        name
        for registry in registries
        for name, kind in registry
        if kind not in seen and kind.__module__.startswith("detectron2.")
    }
    assert missing <= _LIKE_OTHERS


def test_the_device_counts_and_refuses() -> None:
    with PretendDevice() as device:
        x = device.put(torch.arange(4.0))
        y = (x * 2 + torch.zeros(4, device=x.device)).sum()
        assert device.waits.total() == 0 and device.operators >= 3
        assert float(y) == 12.0 and x[x > 1].shape == (2,) and x.cpu().tolist() == [0, 1, 2, 3]
        assert device.waits.total() == 3
        assert bool(y > 0) and y.cpu().device.type == "cpu" and y.device.type != "cpu"
        assert device.waits.total() == 5
        x[x > 1] = 5.0  # a value for all is filled in by mask
        assert device.waits.total() == 5 and x.tolist() == [0, 1, 5, 5]
        with pytest.raises(RuntimeError, match="beside tensors of the device"):
            x + torch.ones(4)


@pytest.mark.parametrize("levels", [5, 20])
def test_proposals_are_found_in_float32_and_are_those_of_float64(levels: int) -> None:
    generator = torch.Generator().manual_seed(levels)
    corner = torch.rand(4, levels, 60, 2, generator=generator) * 700 - 50
    sides = torch.rand(4, levels, 60, 2, generator=generator) * 300
    boxes = list(torch.cat((corner, corner + sides), dim=3).unbind(dim=1))
    logits = list((torch.randn(4, levels, 60, generator=generator) * 9).round().unbind(dim=1))  # with ties
    options = ([(600, 700), (300, 700), (600, 500), (64, 64)], 0.5, 50, 200, 0.0, True)
    expected = find_top_rpn_proposals(boxes, logits, *options)
    with PretendDevice() as device:
        types = device.dtypes
        found = [x.to("cpu") for x in find_top_rpn_proposals(device.put(boxes), device.put(logits), *options)]
    for mine, theirs in zip(found, expected):
        assert 5 < len(mine) == len(theirs)
        assert torch.equal(mine.proposal_boxes.tensor, theirs.proposal_boxes.tensor)
        assert torch.equal(mine.objectness_logits, theirs.objectness_logits)
    assert torch.float32 in types and (torch.float64 in types) == (levels > 16)


if __name__ == "__main__":
    for model_name in sys.argv[1:] or MODELS:
        print("|", model_name, "|", " | ".join(map(str, measure(model_name).values())), "|", flush=True)
