"""PointRend: points, heads, losses, subdivision and small whole models."""

from __future__ import annotations

import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from detectron2.export import export_program
from detectron2.layers import ShapeSpec
from detectron2.modeling import ROI_MASK_HEAD_REGISTRY, SEM_SEG_HEADS_REGISTRY, build_model
from detectron2.modeling.tensor_inference import TensorInference, outputs_to_instances
from detectron2.projects.point_rend import mask_head, point_features, point_head, semantic_seg
from detectron2.structures import BitMasks, Boxes, Instances, PolygonMasks
from detectron2.utils.events import EventStorage

sys.path.insert(0, str(Path(__file__).parent))
from _point_models import IMPLICIT, POINTREND, SEMANTIC, example, image, small_config, small_model

MAPS = {"p2": ShapeSpec(channels=16, stride=4), "p3": ShapeSpec(channels=8, stride=8)}


def feature_maps(images: int = 1) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return {
        name: torch.randn(images, s.channels or 0, 96 // s.stride, 128 // s.stride)
        for name, s in MAPS.items()
    }  # type: ignore[operator]


def roi_head(path: str, *options: Any) -> Any:
    cfg = small_config(path, *options)
    torch.manual_seed(0)
    head = ROI_MASK_HEAD_REGISTRY.get(cfg.MODEL.ROI_MASK_HEAD.NAME)(cfg, MAPS)
    for name, parameter in head.named_parameters():
        if name.endswith(("predictor.weight", "prediction.weight")):
            torch.nn.init.normal_(parameter, std=0.2)
    return head.eval()


def predictions(count: int, classes: int = 5) -> Instances:
    generator = torch.Generator().manual_seed(count)
    corner = torch.rand(count, 2, generator=generator) * 60
    boxes = torch.cat([corner, corner + 10 + torch.rand(count, 2, generator=generator) * 30], dim=1)
    return Instances((96, 128), pred_boxes=Boxes(boxes), pred_classes=torch.arange(count) % classes)


# ---------------------------------------------------------------- points and labels
def test_uncertainty_is_highest_at_the_decision_boundary() -> None:
    logits = torch.tensor(
        [[[3.0, -0.1], [0.5, 2.0]], [[1.0, 1.0], [-4.0, 0.0]]]
    )  # [2 boxes, 2 classes, 2 points]
    assert mask_head.calculate_uncertainty(logits, [1, 1]).tolist() == [[[-0.5, -2.0]], [[-4.0, 0.0]]]
    assert mask_head.calculate_uncertainty(logits[:, :1], [1, 1]).tolist() == [
        [[-3.0, pytest.approx(-0.1)]],
        [[-1.0, -1.0]],
    ]
    scores = torch.tensor([[[5.0], [1.0], [4.0]]])
    assert semantic_seg.calculate_uncertainty(scores).tolist() == [[[-1.0]]]


def test_labels_are_read_from_masks() -> None:
    torch.manual_seed(0)
    masks = torch.rand(3, 6, 8) > 0.5
    instances = [
        Instances((6, 8), gt_masks=BitMasks(masks[:2])),
        Instances((6, 8), gt_classes=torch.zeros(0)),
        Instances((6, 8), gt_masks=BitMasks(masks[2:])),
    ]
    y, x = torch.meshgrid(torch.arange(6), torch.arange(8), indexing="ij")
    centres = (torch.stack([x, y], dim=2).view(1, -1, 2) + 0.5).expand(3, -1, -1)
    labels = point_features.sample_point_labels(instances, centres)
    torch.testing.assert_close(labels, masks.flatten(1).float())


def test_labels_of_nothing_and_of_polygons() -> None:
    nothing = point_features.sample_point_labels(
        [Instances((6, 8), gt_classes=torch.zeros(0))], torch.zeros(0, 4, 2)
    )
    assert nothing.shape == (0, 4)
    polygons = Instances((6, 8), gt_masks=PolygonMasks([[[0.0, 0, 3, 0, 3, 3]]]))
    with pytest.raises(TypeError, match="MASK_FORMAT"):
        point_features.sample_point_labels([polygons], torch.zeros(1, 4, 2))


def test_point_loss_is_cross_entropy_without_ignored_points() -> None:
    torch.manual_seed(0)
    logits, classes = torch.randn(3, 4, 5), torch.tensor([2, 0, 3])
    labels = torch.tensor([[0.0, 1, -1, 0.3, 1]] * 3)
    instances = [Instances((9, 9), gt_classes=classes[:1]), Instances((9, 9), gt_classes=classes[1:])]
    expected = []
    for box in range(3):
        for point in range(5):
            probability, label = logits[box, classes[box], point].sigmoid(), labels[box, point]
            loss = -(label * probability.log() + (1 - label) * (1 - probability).log())
            expected.append(loss if label >= 0 else torch.tensor(0.0))
    with EventStorage():
        found = point_head.roi_mask_point_loss(logits, instances, labels)
    torch.testing.assert_close(found, torch.stack(expected).mean())


def test_point_loss_of_nothing_is_attached() -> None:
    logits = torch.zeros(0, 4, 5, requires_grad=True)
    loss = point_head.roi_mask_point_loss(
        logits, [Instances((9, 9), gt_classes=torch.zeros(0))], torch.zeros(0, 5)
    )
    loss.backward()
    assert loss.item() == 0
    assert logits.grad is not None


# ---------------------------------------------------------------- heads
@pytest.mark.parametrize("each", [True, False])
def test_standard_head_sees_each_point_alone(each: bool) -> None:
    cfg = small_config(POINTREND, "MODEL.POINT_HEAD.COARSE_PRED_EACH_LAYER", each)
    head = point_head.build_point_head(cfg, ShapeSpec(channels=7))
    fine, coarse = torch.randn(2, 7, 9), torch.randn(2, 5, 9)
    whole = head(fine, coarse)
    assert whole.shape == (2, 5, 9)
    torch.testing.assert_close(head(fine[..., 4:5], coarse[..., 4:5]), whole[..., 4:5])


@pytest.mark.parametrize(("positions", "features"), [(True, True), (True, False), (False, True)])
def test_implicit_head_is_a_network_for_each_box(positions: bool, features: bool) -> None:
    cfg = small_config(
        IMPLICIT, "MODEL.POINT_HEAD.NUM_FC", 2, "MODEL.IMPLICIT_POINTREND.POS_ENC_ENABLED", positions,
        "MODEL.IMPLICIT_POINTREND.IMAGE_FEATURE_ENABLED", features,
    )  # fmt: skip
    torch.manual_seed(0)
    head = point_head.build_point_head(cfg, ShapeSpec(channels=7))
    fine, coords, parameters = (
        torch.randn(2, 7, 3),
        torch.rand(2, 3, 2),
        torch.randn(2, head.num_params) * 0.1,
    )
    found = head(fine, coords, parameters)
    for box in range(2):
        for point in range(3):
            inputs = []
            if positions:
                angles = (
                    2 * torch.pi * (2 * coords[box, point] - 1) @ head.positional_encoding_gaussian_matrix
                )
                inputs += [angles.sin(), angles.cos()]
            if features:
                inputs.append(fine[box, :, point])
            x = torch.cat(inputs)
            widths = [len(x), 12, 12, 5]
            at, at_bias = 0, sum(a * b for a, b in pairwise(widths))
            for depth, (into, out) in enumerate(pairwise(widths)):
                weight = parameters[box, at : at + into * out].view(out, into)
                x = weight @ x + parameters[box, at_bias : at_bias + out]
                x = x.relu() if depth < 2 else x
                at, at_bias = at + into * out, at_bias + out
            torch.testing.assert_close(found[box, :, point], x, rtol=1e-4, atol=1e-4)


def test_heads_say_what_does_not_fit() -> None:
    cfg = small_config(
        IMPLICIT, "MODEL.IMPLICIT_POINTREND.POS_ENC_ENABLED", False, "MODEL.IMPLICIT_POINTREND.IMAGE_FEATURE_ENABLED", False
    )  # fmt: skip
    with pytest.raises(ValueError, match="POS_ENC_ENABLED"):
        point_head.build_point_head(cfg, ShapeSpec(channels=7))
    with pytest.raises(ValueError, match="conv_dim must be at most"):
        mask_head.ConvFCHead(
            ShapeSpec(channels=4, height=6, width=6), conv_dim=8, fc_dims=[3], output_shape=(2,)
        )
    with pytest.raises(ValueError, match=r"POINT_HEAD\.NUM_CLASSES"):
        roi_head(POINTREND, "MODEL.POINT_HEAD.NUM_CLASSES", 6)
    semantic = small_config(SEMANTIC, "MODEL.POINT_HEAD.NUM_CLASSES", 6)
    with pytest.raises(ValueError, match=r"POINT_HEAD\.NUM_CLASSES"):
        semantic_seg.PointRendSemSegHead(semantic, MAPS)


@pytest.mark.parametrize("path", [POINTREND, IMPLICIT])
@pytest.mark.parametrize("agnostic", [False, True])
def test_with_enough_points_every_pixel_is_predicted_by_the_point_head(path: str, agnostic: bool) -> None:
    options = (
        "MODEL.POINT_HEAD.SUBDIVISION_NUM_POINTS",
        14 * 14,
        "MODEL.POINT_HEAD.CLS_AGNOSTIC_MASK",
        agnostic,
    )
    head, features, found = roi_head(path, *options), feature_maps(), predictions(3)
    head.first_side, head.subdivision_steps = 7, 1  # to 14 x 14, all of which are refined
    boxes = [found.pred_boxes.tensor]
    with torch.no_grad():
        masks = head.predict(features, boxes, found.pred_classes)
        grid = point_features.generate_regular_grid_point_coords(3, 14, "cpu")
        logits = head._points(features, boxes, grid, head._describe(features, boxes))
    assert masks.shape == (3, 1, 14, 14)
    own = logits[:, 0] if agnostic else logits[torch.arange(3), found.pred_classes]
    torch.testing.assert_close(masks.flatten(1), own)


def test_subdivision_changes_uncertain_pixels_only() -> None:
    head, features, found = roi_head(POINTREND), feature_maps(), predictions(2)
    boxes = [found.pred_boxes.tensor]
    head.subdivision_steps = 0
    with torch.no_grad():
        coarse = head.predict(features, boxes, found.pred_classes)
        head.subdivision_steps = 1
        fine = head.predict(features, boxes, found.pred_classes)
    enlarged = F.interpolate(coarse, scale_factor=2, mode="bilinear", align_corners=False)
    changed = (fine != enlarged).flatten(1)
    assert (changed.sum(dim=1) <= head.subdivision_num_points).all()
    uncertainty = -enlarged.abs().flatten(1)
    for box in range(2):
        assert (
            uncertainty[box][changed[box]].min()
            >= uncertainty[box].sort(descending=True).values[head.subdivision_num_points - 1]
        )


@pytest.mark.parametrize(
    ("points", "steps", "plan"), [(100, 5, (7, 5)), (784, 5, (28, 3)), (784, 1, (14, 0))]
)
def test_steps_that_refine_everything_are_merged(points: int, steps: int, plan: tuple[int, int]) -> None:
    head = roi_head(
        POINTREND,
        "MODEL.POINT_HEAD.SUBDIVISION_NUM_POINTS",
        points,
        "MODEL.POINT_HEAD.SUBDIVISION_STEPS",
        steps,
    )
    assert (head.first_side, head.subdivision_steps) == plan


def test_without_a_point_head_the_coarse_mask_is_the_result() -> None:
    head = roi_head(POINTREND, "MODEL.ROI_MASK_HEAD.POINT_HEAD_ON", False)
    (found,) = head(feature_maps(), [predictions(3)])
    assert found.pred_masks.shape == (3, 1, 7, 7)


@pytest.mark.parametrize("path", [POINTREND, IMPLICIT])
def test_masks_in_batches_and_of_nothing(path: str) -> None:
    head = roi_head(path, "MODEL.POINT_HEAD.IN_FEATURES", ("p2", "p3"))
    features = feature_maps(3)
    instances = [predictions(3), predictions(0), predictions(2)]
    with torch.no_grad():
        together = [x.pred_masks for x in head(features, instances)]
        for n, masks in enumerate(together):
            if not len(masks):
                continue
            one = {name: maps[n : n + 1] for name, maps in features.items()}
            torch.testing.assert_close(head(one, [instances[n]])[0].pred_masks, masks)
        assert len(head(features, [predictions(0)] * 3)[1].pred_masks) == 0
    assert [len(masks) for masks in together] == [3, 0, 2]


def semantic_head(*options: Any) -> Any:
    cfg = small_config(SEMANTIC, "MODEL.SEM_SEG_HEAD.IN_FEATURES", ("p2", "p3"), *options)
    torch.manual_seed(0)
    return SEM_SEG_HEADS_REGISTRY.get(cfg.MODEL.SEM_SEG_HEAD.NAME)(cfg, MAPS)


def test_semantic_head_with_several_feature_maps() -> None:
    head = semantic_head("MODEL.POINT_HEAD.IN_FEATURES", ("p2", "p3"))
    features = feature_maps(2)
    _, losses = head(features, torch.randint(0, 5, (2, 96, 128)))
    sum(losses.values()).backward()
    assert all(torch.isfinite(p.grad).all() for p in head.parameters())
    with torch.no_grad():
        both, _ = head.eval()(features)
        first, _ = head({name: maps[:1] for name, maps in features.items()})
    assert both.shape == (2, 5, 96, 128)
    torch.testing.assert_close(both[:1], first)


def test_semantic_head_with_enough_points_predicts_every_pixel() -> None:
    head = semantic_head(
        "MODEL.POINT_HEAD.SUBDIVISION_STEPS", 1, "MODEL.POINT_HEAD.SUBDIVISION_NUM_POINTS", 10**6
    )
    features = feature_maps()
    coords = torch.stack(
        torch.meshgrid((torch.arange(64) + 0.5) / 64, (torch.arange(48) + 0.5) / 48, indexing="xy"), dim=2
    )
    with torch.no_grad():
        scores, _ = head.eval()(features)
        expected = head._predict_points(
            features, head.coarse_sem_seg_head.layers(features), coords.view(1, -1, 2)
        )
    torch.testing.assert_close(scores.flatten(2), expected)


def test_semantic_loss_when_all_is_ignored() -> None:
    _, losses = semantic_head()(feature_maps(), torch.full((1, 96, 128), 255))
    assert {name: value.item() for name, value in losses.items()} == {
        "loss_sem_seg": 0,
        "loss_sem_seg_point": 0,
    }
    with pytest.raises(ValueError, match="targets"):
        semantic_head()(feature_maps())


# ---------------------------------------------------------------- whole models
@pytest.mark.parametrize("path", [POINTREND, IMPLICIT, SEMANTIC])
def test_a_step_of_training(path: str) -> None:
    model = small_model(path).train()
    with EventStorage():
        losses = model([example(128, 160, 3), example(96, 128, 0, seed=5)])
        sum(losses.values()).backward()
    assert any("point" in name for name in losses)
    missing = [
        name for name, p in model.named_parameters() if p.grad is None or not torch.isfinite(p.grad).all()
    ]
    assert missing == []


@pytest.mark.parametrize("path", [POINTREND, IMPLICIT])
def test_training_without_any_object(path: str) -> None:
    model = small_model(path).train()
    with EventStorage():
        losses = model([example(96, 128, 0)])
        sum(losses.values()).backward()
    assert all(torch.isfinite(value) for value in losses.values())


@pytest.mark.parametrize("path", [POINTREND, IMPLICIT, SEMANTIC])
def test_tensor_form_equals_the_model(path: str) -> None:
    model, item = small_model(path), image(128, 135)
    with torch.no_grad():
        (expected,) = model([item])
        found = TensorInference(model)(item["image"])
    if path == SEMANTIC:
        torch.testing.assert_close(found["sem_seg"], expected["sem_seg"])
        return
    instances = outputs_to_instances(found, (128, 135))
    assert len(instances) > 0
    assert torch.equal(instances.pred_masks, expected["instances"].pred_masks)


@pytest.mark.slow
@pytest.mark.parametrize("path", [POINTREND, IMPLICIT, SEMANTIC])
def test_exports_whole_with_any_size(path: str) -> None:
    graph = TensorInference(small_model(path))
    exported = export_program(graph.model, image(160, 135)["image"], min_size=129, max_size=1024).module()
    for seed, (height, width) in enumerate(((160, 135), (200, 170), (140, 131))):
        picture = image(height, width, seed)["image"]
        with torch.no_grad():
            expected, found = graph(picture), exported(picture)
        for key, value in expected.items():
            torch.testing.assert_close(found[key], value, rtol=1e-4, atol=1e-3, msg=key)


def test_models_of_the_first_releases() -> None:
    cfg = small_config(
        POINTREND, "MODEL.ROI_HEADS.NAME", "PointRendROIHeads", "MODEL.ROI_MASK_HEAD.NAME", "CoarseMaskHead",
        "MODEL.ROI_MASK_HEAD.POOLER_TYPE", "ROIAlign",
    )  # fmt: skip
    cfg.freeze()
    model = build_model(cfg)
    assert isinstance(model.roi_heads.mask_head, mask_head.PointRendMaskHead)
    assert cfg.MODEL.ROI_MASK_HEAD.NAME == "CoarseMaskHead"
    old = {}
    for name, value in model.state_dict().items():
        name = name.replace("mask_head.point_head", "mask_point_head")
        name = name.replace("mask_head.coarse_head.fc", "mask_coarse_head.coarse_mask_fc")
        old[name.replace("mask_head.coarse_head", "mask_coarse_head")] = torch.full_like(value, 3)
    model.load_state_dict(old)
    assert all((value == 3).all() for value in model.roi_heads.mask_head.state_dict().values())
    model.load_state_dict(model.state_dict())
