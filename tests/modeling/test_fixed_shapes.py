"""The fast form of R-CNN: fixed shapes, few waits, and the results of the default form."""

from __future__ import annotations

import copy
import math
import pickle
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from torch import Tensor, nn

TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS), str(TESTS / "modeling")]
from _models import example, image, small_config, small_model  # noqa: E402
from pretend_device import PretendDevice  # noqa: E402

from detectron2.modeling import build_model  # noqa: E402
from detectron2.modeling._selection import _BLOCK, _ROUNDS, nms_in_rounds  # noqa: E402
from detectron2.modeling.fixed_shapes import CompiledFunctions, padded_truth  # noqa: E402
from detectron2.modeling.roi_heads.detections import select_in_rounds  # noqa: E402
from detectron2.modeling.roi_heads.fast_rcnn import fast_rcnn_inference  # noqa: E402
from detectron2.modeling.sampling import sample_rows, subsample_labels  # noqa: E402
from detectron2.structures import BitMasks, Boxes, Instances, PolygonMasks  # noqa: E402
from detectron2.utils.events import EventStorage  # noqa: E402

Inputs = list[dict[str, Any]]
MODELS = [
    "mask_rcnn",
    *(pytest.param(name, marks=pytest.mark.slow) for name in ("faster_rcnn", "cascade", "keypoint_rcnn")),
]


def model_that_takes_all(name: str) -> Any:
    """A model that samples every anchor and every proposal, so that draws do not matter."""
    model: Any = copy.deepcopy(small_model(name))
    for part, count in ((model.proposal_generator, 100_000), (model.roi_heads, 2_000)):
        part.batch_size_per_image, part.positive_fraction = count, 0.5
    return model


def batch_of(name: str) -> Inputs:
    """Three images of different sizes, the last without ground truth."""
    batch = [example(name, 96, 128, 3, 0), example(name, 64, 96, 1, 1), example(name, 64, 64, 1, 2)]
    batch[-1]["instances"] = batch[-1]["instances"][:0]
    return batch


def step(
    model: Any, batch: Inputs, fast: bool
) -> tuple[dict[str, float], dict[str, Tensor], dict[str, float]]:
    """Return losses, gradients and logged figures of a step."""
    model.zero_grad()
    model.fixed_shapes = fast
    with EventStorage() as storage:
        losses = model.train()(batch)
        logged = {name: float(value) for name, (value, _) in storage.latest().items()}
    sum(losses.values()).backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    return {name: float(loss.detach()) for name, loss in losses.items()}, gradients, logged


@pytest.mark.parametrize("name", MODELS)
def test_losses_gradients_and_figures_are_those_of_the_default_form(name: str) -> None:
    model, batch = model_that_takes_all(name), batch_of(name)
    state = copy.deepcopy(model.state_dict())  # statistics of the norms move
    expected = step(model, batch, fast=False)
    model.load_state_dict(state)
    found = step(model, batch, fast=True)
    for mine, theirs in zip(found, expected):
        assert mine.keys() == theirs.keys()
    assert found[0] == pytest.approx(expected[0], rel=1e-4)
    assert found[2] == pytest.approx(expected[2], rel=1e-4)
    for key, gradient in expected[1].items():
        torch.testing.assert_close(
            found[1][key], gradient, rtol=1e-3, atol=1e-5 * float(gradient.abs().max()) + 1e-8
        )


@pytest.mark.parametrize("options", ["giou", "ciou", "sigmoid", "agnostic", "boundary"])
@pytest.mark.slow
def test_options_give_the_same_losses(options: str) -> None:
    keys = {
        "giou": ("MODEL.RPN.BBOX_REG_LOSS_TYPE", "giou", "MODEL.ROI_BOX_HEAD.BBOX_REG_LOSS_TYPE", "giou"),
        "ciou": ("MODEL.RPN.BBOX_REG_LOSS_TYPE", "diou", "MODEL.ROI_BOX_HEAD.BBOX_REG_LOSS_TYPE", "ciou"),
        "sigmoid": ("MODEL.ROI_BOX_HEAD.USE_SIGMOID_CE", True),
        "agnostic": (
            "MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG",
            True,
            "MODEL.ROI_MASK_HEAD.CLS_AGNOSTIC_MASK",
            True,
        ),
        "boundary": ("MODEL.RPN.BOUNDARY_THRESH", 0),
    }
    torch.manual_seed(0)
    model: Any = build_model(small_config("mask_rcnn", *keys[options]))
    for part, count in ((model.proposal_generator, 100_000), (model.roi_heads, 2_000)):
        part.batch_size_per_image, part.positive_fraction = count, 0.5
    state = copy.deepcopy(model.state_dict())
    expected = step(model, batch_of("mask_rcnn"), fast=False)
    model.load_state_dict(state)
    found = step(model, batch_of("mask_rcnn"), fast=True)
    assert found[0] == pytest.approx(expected[0], rel=1e-4)


def same(found: Instances, expected: Instances) -> None:
    assert len(found) == len(expected) > 0
    for field, value in expected.get_fields().items():
        if field == "pred_keypoint_heatmaps":
            continue  # the fast form keeps the positions alone
        a, b = (getattr(x, "tensor", x) for x in (found.get(field), value))
        assert torch.equal(a, b) if a.dtype == torch.bool else torch.allclose(a, b, rtol=1e-4, atol=1e-3), (
            field
        )


@pytest.mark.parametrize("name", MODELS)
def test_predictions_are_those_of_the_default_form(name: str) -> None:
    model: Any = copy.deepcopy(small_model(name))
    batch = [image(96, 128, 3), image(128, 80, 4) | {"height": 64, "width": 40}]
    with torch.no_grad():
        expected = [x["instances"] for x in model(batch)]
        raw = model.inference(batch, do_postprocess=False)
        model.fixed_shapes = True
        for found, wanted in zip(model(batch), expected):
            same(found["instances"], wanted)
        for found, wanted in zip(model.inference(batch, do_postprocess=False), raw):
            same(found, wanted)
        with PretendDevice() as device:  # where NMS runs in rounds
            device.put(model)
            device.reset()
            there = [x["instances"] for x in model(batch)]
            assert device.waits.total() == 1
            on_host = [x.to("cpu") for x in there]
    for found, wanted in zip(on_host, expected):
        same(found, wanted)


def cluster(generator: torch.Generator, count: int, centres: int) -> Tensor:
    middle = (torch.rand(centres, 2, generator=generator) * 400)[torch.arange(count) % centres]
    middle = middle + torch.randn(count, 2, generator=generator) * 12
    side = 60 * torch.exp(0.3 * torch.randn(count, 2, generator=generator))
    return torch.cat((middle - side / 2, middle + side / 2), dim=1)


@pytest.mark.parametrize("count", [0, 1, _BLOCK, 2 * _BLOCK + 40])
@pytest.mark.parametrize("threshold", [0.3, 0.7])
def test_nms_in_rounds_is_nms(count: int, threshold: float) -> None:
    generator = torch.Generator().manual_seed(count)
    boxes = torch.stack([cluster(generator, count, 9), cluster(generator, count, 3)])
    valid = torch.rand(2, count, generator=generator) > 0.2
    groups = torch.randint(2, (2, count), generator=generator)
    scores = torch.linspace(1, 0, count)
    found = nms_in_rounds(boxes, valid, threshold, groups)
    alone = nms_in_rounds(boxes, valid, threshold)
    for b, v, g, grouped, ungrouped in zip(boxes, valid, groups, found, alone):
        rows = torch.nonzero(v)[:, 0]
        kept = rows[torchvision.ops.nms(b[rows], scores[rows], threshold)]
        assert torch.nonzero(ungrouped)[:, 0].tolist() == sorted(kept.tolist())
        # In float64, as the default form: float32 gives the same order.
        shifted = b.double() + 1e4 * g[:, None]
        kept = rows[torchvision.ops.nms(shifted[rows], scores[rows].double(), threshold)]
        assert torch.nonzero(grouped)[:, 0].tolist() == sorted(kept.tolist())


def test_nms_in_rounds_keeps_too_many_of_a_long_chain() -> None:
    x = torch.arange(_BLOCK, dtype=torch.float32) * 4
    boxes = torch.stack(
        (x, x * 0, x + 10, x * 0 + 10), dim=1
    )  # each overlaps only its neighbours by more than 0.4
    exact = torchvision.ops.nms(boxes, torch.linspace(1, 0, len(boxes)), 0.4)
    found = nms_in_rounds(boxes[None], torch.ones(1, len(boxes), dtype=torch.bool), 0.4)[0]
    wanted = torch.zeros_like(found).index_fill(0, exact, 1)
    assert torch.equal(found[:_ROUNDS], wanted[:_ROUNDS]) and bool((found | ~wanted).all())


@pytest.mark.parametrize("shared", [False, True])
def test_detections_selected_in_rounds_are_those_of_the_default_form(shared: bool) -> None:
    generator = torch.Generator().manual_seed(1)
    count, classes = 40, 3
    boxes = torch.stack([cluster(generator, count * (1 if shared else classes), 5) for _ in range(2)])
    boxes = boxes.reshape(2, count, -1)
    scores = torch.rand(2, count, classes + 1, generator=generator)
    boxes[0, 3, 0], scores[1, 5, 0] = float("nan"), float("inf")
    sizes = [(300, 350), (400, 200)]
    expected, _ = fast_rcnn_inference(list(boxes), list(scores), sizes, 0.3, 0.5, 20)
    real = torch.ones(2, count, dtype=torch.bool)
    found = select_in_rounds(boxes, scores, sizes, (0.3, 0.5, 20), real)
    for wanted, box, score, label, kept in zip(expected, *found):
        torch.testing.assert_close(box[kept], wanted.pred_boxes.tensor)
        torch.testing.assert_close(score[kept], wanted.scores)
        assert label[kept].tolist() == wanted.pred_classes.tolist()


LABELS = torch.tensor([[9, 9, 1, 0, 9, 2, -1, 9, 9, 1], [-1, 9, 9, 9, 0, -1, -1, 9, 9, 9], [9, -1] * 5])


@pytest.mark.parametrize("num_samples, fraction", [(4, 0.5), (6, 0.25), (8, 1.0), (50, 0.5)])
def test_samples_have_the_distribution_of_the_default_form(num_samples: int, fraction: float) -> None:
    torch.manual_seed(0)
    rounds = 2_000
    many = LABELS.repeat(rounds, 1)
    rows, drawn = sample_rows(many, num_samples, fraction, 9)
    assert rows.shape[1] <= num_samples
    hits = torch.zeros_like(many, dtype=torch.int64).scatter_add_(1, rows, drawn.long())
    assert int(hits.max()) == 1  # without replacement
    foreground = drawn & (many.gather(1, rows) != 9)
    assert not bool(foreground[:, int(num_samples * fraction) :].any())
    for i, labels in enumerate(LABELS):
        parts = subsample_labels(labels, num_samples, fraction, 9)  # a uniform draw of each kind
        mine = hits[i :: len(LABELS)]
        for part, kind in zip(parts, ((labels != 9) & (labels != -1), labels == 9)):
            assert set(mine[:, kind].sum(dim=1).tolist()) == {len(part)}
            frequencies = mine[:, kind].float().mean(dim=0)
            expected = len(part) / max(int(kind.sum()), 1)
            assert bool(((frequencies - expected).abs() < 0.06).all())  # five standard deviations


def test_ground_truth_is_padded_to_few_numbers() -> None:
    square = np.array([2.0, 2.0, 10.0, 2.0, 10.0, 10.0, 2.0, 10.0])
    first, second, count = Instances((12, 14)), Instances((8, 8)), 33
    first.gt_boxes, first.gt_classes = (
        Boxes(torch.tensor([[2.0, 2.0, 10.0, 10.0]] * count)),
        torch.arange(count),
    )
    first.gt_masks = PolygonMasks([[square]] * count)
    second.gt_boxes, second.gt_classes = Boxes(torch.zeros(0, 4)), torch.zeros(0, dtype=torch.int64)
    truth = padded_truth([first, second], 16, 32, with_masks=True)
    assert truth["boxes"].shape == (2, 128, 4) and truth["masks"].shape == (2, 128, 16, 32)
    assert truth["valid"].sum(dim=1).tolist() == [count, 0]
    assert truth["classes"][0, :count].tolist() == list(range(count))
    assert truth["masks"][0, count - 1].sum() == 64 and not bool(truth["masks"][:, count:].any())
    assert "masks" not in padded_truth([first, second], 16, 32, with_masks=False)
    assert padded_truth([second], 8, 8, with_masks=False)["boxes"].shape == (1, 32, 4)


def test_boxes_may_share_a_mask() -> None:
    masks = torch.rand(3, 20, 24) > 0.3
    boxes = torch.rand(5, 4) * 9
    boxes[:, 2:] += boxes[:, :2] + 2
    rows = torch.tensor([2, 0, 2, 1, 1])
    found = BitMasks(masks).crop_and_resize(boxes, 7, rows)
    assert torch.equal(found, BitMasks(masks[rows]).crop_and_resize(boxes, 7))


def test_batches_are_padded_to_the_first_size_that_holds_them() -> None:
    cfg = small_config(
        "faster_rcnn", "INPUT.FIXED_SIZE", [[128, 192], [192, 128]], "MODEL.FIXED_SHAPES", True
    )
    model: Any = build_model(cfg)
    assert model.fixed_shapes
    shapes = {
        (h, w): model.preprocess_image([image(h, w)]).tensor.shape[-2:] for h, w in ((96, 160), (160, 96))
    }
    assert shapes == {(96, 160): (128, 192), (160, 96): (192, 128)}
    assert model.preprocess_image([image(200, 200)]).tensor.shape[-2:] == (224, 224)
    assert model.preprocess_image([image(96, 160)]).image_sizes == [(96, 160)]
    model.fixed_sizes = [(100, 170)]  # no multiples of the strides
    assert model.preprocess_image([image(64, 64)]).tensor.shape[-2:] == (128, 192)


@pytest.mark.parametrize("sizes", [[800, 1344], [[64]], [["64", "64"]], [[-1, 64]]])
def test_wrong_sizes_are_named(sizes: Any) -> None:
    with pytest.raises(ValueError, match=r"INPUT.FIXED_SIZE must be a list of \[height, width\] in pixels"):
        build_model(small_config("rpn", "INPUT.FIXED_SIZE", sizes))


@pytest.mark.parametrize("name", ["semantic", "panoptic", "retinanet"])
def test_other_models_are_padded_too(name: str) -> None:
    """Label maps as well as images."""
    model: Any = build_model(small_config(name, "INPUT.FIXED_SIZE", [[96, 160]]))
    shapes: list[torch.Size] = []
    model.backbone.register_forward_pre_hook(lambda module, given: shapes.append(given[0].shape[-2:]))
    with EventStorage():
        losses = model([example(name, 64, 96, 2)])
    assert all(loss.isfinite() for loss in losses.values())
    assert tuple(model.eval()([image(64, 96)])[0].values()) and shapes == [(96, 160)] * 2


@pytest.mark.parametrize(
    "name, message",
    [
        ("c4", "Res5ROIHeads: it lacks the method loss_tensors"),
        ("panoptic", "PanopticFPN overrides forward, inference"),
        ("retinanet", "RetinaNet has no form with fixed shapes"),
        ("rpn", "ProposalNetwork has no form with fixed shapes"),
    ],
)
def test_models_without_a_fast_form_say_so(name: str, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=f"{message}.*set MODEL.FIXED_SHAPES = False"):
        build_model(small_config(name, "MODEL.FIXED_SHAPES", True))


def test_given_proposals_have_no_fast_form() -> None:
    changes = ("MODEL.PROPOSAL_GENERATOR.NAME", "PrecomputedProposals", "MODEL.FIXED_SHAPES", True)
    with pytest.raises(ValueError, match="given proposals have no form with fixed shapes"):
        build_model(small_config("faster_rcnn", *changes))


@pytest.mark.parametrize("objects", [(0, 2), (0, 0)])
def test_images_without_objects_need_no_keypoints(objects: tuple[int, int]) -> None:
    """The mapper gives them none."""
    model: Any = copy.deepcopy(small_model("keypoint_rcnn"))
    batch = [example("keypoint_rcnn", 64, 96, count, seed) for seed, count in enumerate(objects)]
    for item, count in zip(batch, objects):
        if not count:
            item["instances"].remove("gt_keypoints")
    losses = step(model, batch, fast=True)[0]
    assert all(math.isfinite(loss) for loss in losses.values())
    assert (losses["loss_keypoint"] > 0) == any(objects)


def test_replaced_methods_are_named() -> None:
    model: Any = copy.deepcopy(small_model("mask_rcnn"))
    model.fixed_shapes = True

    class Mine(type(model.roi_heads.mask_head)):  # type: ignore[misc]
        def forward(self, x: Tensor, instances: list[Instances]) -> Any:
            return super().forward(x, instances)

    model.roi_heads.mask_head.__class__ = Mine
    with pytest.raises(TypeError, match=r"Mine overrides forward, which loss_tensors\(\) does not call"):
        step(model, batch_of("mask_rcnn"), fast=True)


def test_options_without_a_fast_form_are_named() -> None:
    model: Any = copy.deepcopy(small_model("mask_rcnn"))
    model.roi_heads.train_on_pred_boxes = True
    with pytest.raises(ValueError, match="train_on_pred_boxes has no form with fixed shapes"):
        step(model, batch_of("mask_rcnn"), fast=True)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name, backend",
    [(name, "aot_eager") for name in ("faster_rcnn", "mask_rcnn", "cascade", "keypoint_rcnn")]
    + [(name, "inductor") for name in ("faster_rcnn", "mask_rcnn")],
)
def test_whole_steps_and_predictions_compile_without_a_break(name: str, backend: str) -> None:
    model, batch = model_that_takes_all(name), batch_of(name)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 0.0  # statistics stay as they are
    losses, gradients, logged = step(model, batch, fast=True)
    with torch.no_grad():
        expected = model.eval()(batch)
    torch.compiler.reset()
    model.compile(backend=backend, fullgraph=True)  # a break would be an error
    found = step(model, batch, fast=True)
    assert found[0] == pytest.approx(losses, rel=1e-4) and found[2] == pytest.approx(logged, rel=1e-4)
    for key, gradient in gradients.items():
        torch.testing.assert_close(
            found[1][key], gradient, rtol=1e-3, atol=1e-5 * float(gradient.abs().max()) + 1e-8
        )
    with torch.no_grad():
        for mine, theirs in zip(model.eval()(batch), expected):
            same(mine["instances"], theirs["instances"])


def test_compiled_functions_survive_copies_and_pickles() -> None:
    calls: list[str] = []

    def backend(graph: Any, inputs: Any) -> Any:
        calls.append("compiled")
        return graph

    double = CompiledFunctions(backend=backend)
    assert float(double(_twice)(None, torch.tensor(2.0))) == 4.0 and calls == ["compiled"]
    assert pickle.loads(pickle.dumps(CompiledFunctions(mode="default"))).options == {"mode": "default"}
    assert copy.deepcopy(double).options == double.options


def _twice(model: Any, x: Tensor) -> Tensor:
    return x * 2
