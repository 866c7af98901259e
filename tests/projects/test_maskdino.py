"""MaskDINO: what its parts do, training, inference, export."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from detectron2.layers import ShapeSpec
from detectron2.modeling.tensor_inference import TensorInference
from detectron2.projects.maskdino import (
    DeformableTransformerDecoderLayer,
    HungarianMatcher,
    MaskDINODecoder,
    MaskDINOEncoder,
    MSDeformAttnTransformerEncoderOnly,
    SetCriterion,
    TransformerDecoder,
)
from detectron2.projects.maskdino.predictions import boxes_of_masks
from detectron2.solver import build_optimizer
from detectron2.structures import BitMasks, ImageList, PolygonMasks

sys.path.insert(0, str(Path(__file__).parent))
from _mask_scenes import image, labelled
from _maskdino_models import BITMASK, INSTANCE, PANOPTIC, SEMANTIC, config, model_of

# -------------------------------------------------------------------------------------------------- parts


def decoder(**options: Any) -> MaskDINODecoder:
    torch.manual_seed(0)
    defaults: dict[str, Any] = {
        **{"in_channels": 16, "num_classes": 3, "hidden_dim": 16, "num_queries": 5, "nheads": 2},
        **{"dim_feedforward": 8, "dec_layers": 2, "mask_dim": 6, "enforce_input_project": False},
        **{"two_stage": True, "dn": "seg", "noise_scale": 0.0, "dn_num": 7, "initialize_box_type": "no"},
        **{"initial_pred": True, "learn_tgt": False, "total_num_feature_levels": 3},
    }
    return MaskDINODecoder(**(defaults | options))


def levels(n: int = 2, channels: int = 16) -> list[Tensor]:
    return [torch.randn(n, channels, 2 * s, 3 * s) for s in (1, 2, 4)]


def targets(*counts: int) -> list[dict[str, Tensor]]:
    found = []
    for count in counts:
        boxes = torch.cat([torch.rand(count, 2) / 2 + 0.25, torch.rand(count, 2) / 4 + 0.1], 1)
        masks = torch.zeros(count, 16, 24, dtype=torch.bool)
        masks[:, 4:9, 6:14] = True
        found.append({"labels": torch.randint(0, 3, (count,)), "boxes": boxes, "masks": masks})
    return found


@pytest.mark.parametrize("whole", [False, True])
def test_boxes_around_masks(whole: bool) -> None:
    torch.manual_seed(0)
    masks = (torch.rand(2, 4, 6, 8) > 0.9).float() - 0.5
    masks[0, 1] = -1
    found = boxes_of_masks(masks, whole)
    for i in range(2):
        for q in range(4):
            y, x = (masks[i, q] > 0).nonzero(as_tuple=True)
            if len(x) == 0:
                want = [0.0, 0, 0, 0] if whole else [1.0, 1, 0, 0]
            else:
                x0, y0, x1, y1 = (int(v) for v in (x.min(), y.min(), x.max() + whole, y.max() + whole))
                want = [(x0 + x1) / 16, (y0 + y1) / 12, (x1 - x0) / 8, (y1 - y0) / 6]
            torch.testing.assert_close(found[i, q], torch.tensor(want))


def test_denoising_queries_are_groups_of_all_objects() -> None:
    model = decoder(noise_scale=0.0).train()
    given = targets(3, 2)
    queries, odds, mask, layout = model.prepare_for_dn(given, None, None, 2)
    assert layout == {"pad_size": 6, "scalar": 2}  # 7 // 3 groups of 3
    assert queries is not None and odds is not None and mask is not None
    for i, target in enumerate(given):
        for group in (0, 3):
            some = slice(group, group + len(target["labels"]))
            torch.testing.assert_close(odds[i, some].sigmoid(), target["boxes"])
            assert torch.equal(queries[i, some], model.label_enc(target["labels"]))
    assert not queries[1, 2].any() and not queries[1, 5].any()
    for row in range(11):
        for column in range(11):
            other_group = row < 6 and column < 6 and row // 3 != column // 3
            assert bool(mask[row, column]) == (other_group or (row >= 6 and column < 6))
    assert model.prepare_for_dn(targets(0, 0), None, None, 2) == (None, None, None, None)
    assert model.prepare_for_dn(targets(8, 1), None, None, 2)[3] is None  # too many for a group
    assert model.eval().prepare_for_dn(given, None, None, 2)[3] is None


def test_denoising_does_not_reach_the_matching_queries() -> None:
    features, mask_features = levels(), torch.randn(2, 6, 16, 24)
    outputs = []
    for given in (targets(3, 2), targets(1, 4)):
        model = decoder(noise_scale=0.5).train()
        outputs.append(model(features, mask_features, None, given)[0])
    for key in ("pred_logits", "pred_boxes", "pred_masks"):
        torch.testing.assert_close(outputs[0][key], outputs[1][key])
    with pytest.raises(ValueError, match="targets"):
        model(features, mask_features, None)


@pytest.mark.parametrize("kind", ["no", "bitmask", "mask2box"])
@pytest.mark.parametrize("two_stage", [True, False])
def test_queries_begin_at_proposals_masks_or_learnt_boxes(kind: str, two_stage: bool) -> None:
    model = decoder(initialize_box_type=kind, two_stage=two_stage).eval()
    outputs, layout = model(levels(), torch.randn(2, 6, 16, 24), None)
    assert layout is None
    first = outputs["aux_outputs"][0]
    assert first["pred_masks"] is None and len(outputs["aux_outputs"]) == 2
    if not two_stage:
        want = model.query_embed.weight.sigmoid().expand(2, -1, -1)
        assert "interm_outputs" not in outputs
    elif kind == "no":
        want = outputs["interm_outputs"]["pred_boxes"]
    else:
        want = boxes_of_masks(outputs["interm_outputs"]["pred_masks"], kind == "bitmask")
    torch.testing.assert_close(first["pred_boxes"], want, atol=2e-5, rtol=1e-4)


def test_a_small_image_has_fewer_queries() -> None:
    model = decoder(num_queries=60).eval()
    outputs, _ = model(levels(1), torch.randn(1, 6, 16, 24), None)
    assert outputs["pred_logits"].shape == (1, 60, 3)
    tiny = [torch.randn(1, 16, s, s) for s in (1, 2, 4)]
    outputs, _ = model(tiny, torch.randn(1, 6, 8, 8), None)
    assert outputs["pred_logits"].shape == (1, 21, 3)


def test_padding_is_not_seen() -> None:
    model = decoder().eval()
    features, mask_features = levels(1), torch.randn(1, 6, 16, 24)
    hidden = [torch.zeros(1, *f.shape[2:], dtype=torch.bool) for f in features]
    for h in hidden:
        h[..., h.shape[-1] * 2 // 3 :] = True
    changed = [f.masked_fill(h[:, None], 7.0) for f, h in zip(features, hidden)]
    first, second = (model(f, mask_features, hidden)[0] for f in (features, changed))
    torch.testing.assert_close(first["pred_logits"], second["pred_logits"])
    assert not torch.equal(
        model(features, mask_features, None)[0]["pred_logits"],
        model(changed, mask_features, None)[0]["pred_logits"],
    )


def test_wrong_arguments() -> None:
    for options in ({"initialize_box_type": "boxes"}, {"mask_classification": False}, {"query_dim": 2}):
        with pytest.raises(ValueError, match=r"must be|needs"):
            decoder(**options)
    with pytest.raises(ValueError, match="3 levels"):
        decoder()(levels()[:2], torch.randn(2, 6, 16, 24), None)
    layer = DeformableTransformerDecoderLayer(8, 8, n_levels=1, n_heads=2)
    with pytest.raises(ValueError, match="deformable_decoder"):
        TransformerDecoder(layer, 2, return_intermediate=True, d_model=8, deformable_decoder=False)
    with pytest.raises(ValueError, match="box attention"):
        DeformableTransformerDecoderLayer(8, 8, use_deformable_box_attn=True)
    with pytest.raises(ValueError, match="memory"):
        layer(torch.randn(3, 1, 8))
    layer.rm_self_attn_modules()
    assert not any("self_attn" in name for name, _ in layer.named_parameters())


def encoder(**options: Any) -> MaskDINOEncoder:
    shapes = {f"res{i}": ShapeSpec(channels=8, stride=2**i) for i in (2, 3, 4, 5)}
    defaults: dict[str, Any] = {
        **{"transformer_dropout": 0.0, "transformer_nheads": 2, "transformer_dim_feedforward": 16},
        **{"transformer_enc_layers": 1, "conv_dim": 32, "mask_dim": 6, "norm": "GN", "common_stride": 4},
        **{"transformer_in_features": ["res3", "res4", "res5"], "num_feature_levels": 3},
        **{"total_num_feature_levels": 5, "feature_order": "low2high"},
    }
    return MaskDINOEncoder(shapes, **(defaults | options))


def test_levels_beyond_the_coarsest_map() -> None:
    features = {f"res{i}": torch.randn(1, 8, 64 >> (i - 1), 128 >> (i - 1)) for i in (2, 3, 4, 5)}
    sides = [(16, 32), (8, 16), (4, 8), (2, 4), (1, 2)]
    for order, want in (("low2high", sides), ("high2low", sides[::-1])):
        masks, first, found = encoder(feature_order=order).forward_features(features)
        assert masks.shape == (1, 6, 32, 64)
        assert [tuple(x.shape[2:]) for x in found] == want
        assert torch.equal(first, found[0])
    # Every level has the positions of its own size.
    model = encoder(feature_order="high2low")
    seen: list[tuple[Any, Any]] = []
    model.transformer.encode = lambda x, pos, masks: seen.append((x, pos)) or list(x)  # type: ignore[method-assign,func-returns-value]
    model.forward_features(features)
    for level, positions in zip(*seen[0]):
        torch.testing.assert_close(positions, model.pe_layer(level))
    with pytest.raises(ValueError, match="total_num_feature_levels"):
        encoder(total_num_feature_levels=2)
    with pytest.raises(ValueError, match="feature_order"):
        encoder(feature_order="fine first")


def test_encoder_hides_padding() -> None:
    model = MSDeformAttnTransformerEncoderOnly(8, 2, 1, 16, 0.0, num_feature_levels=1).eval()
    x = torch.randn(1, 8, 4, 6)
    hidden = torch.zeros(1, 4, 6, dtype=torch.bool)
    hidden[..., 4:] = True
    changed = x.masked_fill(hidden[:, None], 9.0)
    first, second = (model([m], [hidden], [torch.zeros_like(x)])[0] for m in (x, changed))
    seen = ~hidden.flatten()
    torch.testing.assert_close(first[:, seen], second[:, seen])


# -------------------------------------------------------------------------------------------------- training


def predictions(given: list[dict[str, Tensor]], classes: int = 3, extra: int = 2) -> dict[str, Tensor]:
    """What finds all objects of one image, in reverse order after ``extra`` queries that find nothing."""
    (target,) = given
    n = len(target["labels"])
    logits = torch.full((1, n + extra, classes), -12.0)
    logits[0, extra:][torch.arange(n), target["labels"].flip(0)] = 12.0
    boxes = torch.cat([torch.full((extra, 4), 0.9), target["boxes"].flip(0)])[None]
    masks = torch.cat([torch.zeros(extra, 16, 24), target["masks"].flip(0).float() * 40 - 20])[None]
    return {"pred_logits": logits, "pred_boxes": boxes, "pred_masks": masks}


def test_matching_by_class_box_and_mask() -> None:
    torch.manual_seed(0)
    given = targets(3)
    matcher = HungarianMatcher(4, 5, 5, 100, cost_box=5, cost_giou=2)
    outputs = predictions(given)
    for cost in (["cls", "box", "mask"], ["box"]):
        ((queries, objects),) = matcher(outputs, given, cost)
        assert queries.tolist() == [2, 3, 4] and objects.tolist() == [2, 1, 0]
    with pytest.raises(ValueError, match="must not be 0"):
        HungarianMatcher(0, 0, 0)


def test_boxes_of_stuff_do_not_matter_in_panoptic_matching() -> None:
    torch.manual_seed(0)
    given = targets(3)
    given[0]["labels"] = torch.tensor([0, 1, 2])
    outputs = predictions(given)
    matcher = HungarianMatcher(4, 5, 5, 100, cost_box=5, cost_giou=2, panoptic_on=True)
    matcher.thing_classes = [0, 1]
    cost = matcher._box_cost(outputs["pred_boxes"][0], given[0])
    assert cost[:, 2].unique().numel() == 1
    torch.testing.assert_close(cost[0, 2], cost[:, :2].mean())
    matcher.thing_classes = []
    assert not matcher._box_cost(outputs["pred_boxes"][0], given[0]).any()


def test_perfect_predictions_cost_little() -> None:
    torch.manual_seed(0)
    matcher = HungarianMatcher(4, 5, 5, 100, cost_box=5, cost_giou=2)
    losses = ["labels", "masks", "boxes"]
    criterion = SetCriterion(3, matcher, {}, 0.1, losses, 100, 3.0, 0.75, dn="seg", dn_losses=losses)
    given = targets(3)
    right = predictions(given)
    wrong = {
        "pred_logits": torch.zeros(1, 5, 3),
        "pred_boxes": torch.full((1, 5, 4), 0.1),
        "pred_masks": torch.full((1, 5, 16, 24), -20.0),
    }
    found = criterion({**right, "aux_outputs": [wrong], "interm_outputs": right}, given)
    for name in ("loss_ce", "loss_mask", "loss_dice", "loss_bbox", "loss_giou"):
        for end in ("", "_interm"):
            assert found[name + end] < 0.4 * found[f"{name}_0"]
        assert found[f"{name}_dn"] == found[f"{name}_dn_0"] == 0  # no denoising queries
    known = {key: value[:, 2:].flip(1) for key, value in right.items()}
    layout = {"pad_size": 3, "scalar": 1, "output_known_lbs_bboxes": {**known, "aux_outputs": []}}
    found = criterion(right, given, layout)
    for name in ("loss_ce", "loss_bbox", "loss_giou"):
        torch.testing.assert_close(found[f"{name}_dn"], found[name], atol=1e-4, rtol=1e-3)
    with pytest.raises(ValueError, match="labels, masks, boxes"):
        criterion.get_loss("keypoints", right, given, [], 1.0)


@pytest.mark.parametrize("counts", [(3, 1), (2, 0), (0, 0), (12, 9)])
@pytest.mark.parametrize("name", [INSTANCE, BITMASK, PANOPTIC, SEMANTIC])
def test_a_step_gives_every_parameter_a_finite_gradient(name: str, counts: tuple[int, int]) -> None:
    model = model_of(name)
    losses = model([labelled(64, 96, counts[0]), labelled(64, 96, counts[1], 1)])
    sum(losses.values()).backward()
    without = [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert without == []
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)
    assert all(v.isfinite() for v in losses.values())
    two_stage = name != SEMANTIC
    assert ("loss_bbox_interm" in losses) == ("loss_ce_dn_0" in losses) == two_stage
    if counts == (0, 0):
        assert losses["loss_mask"] == losses["loss_bbox"] == losses["loss_ce_dn"] == 0


@pytest.mark.slow
@pytest.mark.parametrize("name", [INSTANCE, PANOPTIC, SEMANTIC])
def test_training_lowers_the_loss(name: str) -> None:
    model = model_of(name)
    optimizer = build_optimizer(config(name, "SOLVER.BASE_LR", 2e-3), model)
    data = [labelled(64, 64, 2)]
    values = []
    for _ in range(30):
        loss = sum(model(data).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        values.append(float(loss.detach()))
    assert sum(values[-5:]) < 0.8 * sum(values[:5])


def test_targets_of_all_kinds_of_ground_truth() -> None:
    model = model_of(INSTANCE)
    instances = labelled(64, 48, 2)["instances"]
    images = ImageList(torch.zeros(1, 3, 64, 96), [(64, 48)])
    (want,) = model.prepare_targets([instances], images)
    assert want["masks"].shape == (2, 64, 96) and not want["masks"][..., 48:].any()
    x0, y0, x1, y1 = instances.gt_boxes.tensor.T
    centres = torch.stack([(x0 + x1) / 2 / 48, (y0 + y1) / 2 / 64], 1)
    torch.testing.assert_close(want["boxes"][:, :2], centres)
    (padded,) = model.prepare_targets_detr([instances], images)
    torch.testing.assert_close(padded["boxes"], want["boxes"] * torch.tensor([0.5, 1, 0.5, 1]))
    polygons = [[[a, b, c, b, c, d, a, d]] for a, b, c, d in instances.gt_boxes.tensor.tolist()]
    instances.remove("gt_boxes")
    (without,) = model.prepare_targets([instances], images)
    torch.testing.assert_close(without["boxes"], want["boxes"])
    for masks in (BitMasks(instances.gt_masks), PolygonMasks(polygons)):
        instances.gt_masks = masks
        (found,) = model.prepare_targets([instances], images)
        assert torch.equal(found["masks"], want["masks"])
        torch.testing.assert_close(found["boxes"], want["boxes"])
    with pytest.raises(ValueError, match="instances"):
        model([image()])


def test_boxes_are_relative_to_the_padding_where_images_differ() -> None:
    boxes: list[Tensor] = []

    class Seen(nn.Module):
        weight_dict: dict[str, float] = {}

        def forward(self, outputs: Any, targets: Any, known: Any) -> dict[str, Tensor]:
            boxes.append(targets[1]["boxes"])
            return {}

    for mapper in ("coco_instance_lsj", "coco_instance_detr"):
        model = model_of(INSTANCE, "INPUT.DATASET_MAPPER_NAME", mapper)
        model.criterion = Seen()
        model([labelled(64, 96, 1), labelled(64, 48, 1, 1)])
    torch.testing.assert_close(boxes[0] * torch.tensor([0.5, 1, 0.5, 1]), boxes[1])


def test_recipe_of_panoptic_boxes() -> None:
    model = model_of(PANOPTIC, "MODEL.MaskDINO.PANO_BOX_LOSS", True)
    assert model.criterion.panoptic_on and model.criterion.matcher.panoptic_on
    assert model.criterion.thing_classes == model.criterion.matcher.thing_classes == list(range(80))
    data = labelled(64, 64, 2)
    data["instances"].gt_classes[:] = 100
    losses = model([data])
    assert losses["loss_bbox"] == 0 and losses["loss_mask"] > 0


def test_cross_entropy_is_for_semantic_segmentation_only() -> None:
    semantic, panoptic = "MODEL.MaskDINO.SEMANTIC_CE_LOSS", "MODEL.MaskDINO.TEST.PANOPTIC_ON"
    assert model_of(SEMANTIC).sem_seg_head.predictor.class_embed.out_features == 151
    model = model_of(SEMANTIC, semantic, True, panoptic, True)
    assert model.sem_seg_head.predictor.class_embed.out_features == 150
    assert not model.semantic_ce_loss and not model.criterion.semantic_ce_loss


# -------------------------------------------------------------------------------------------------- inference


def test_all_results_of_one_model() -> None:
    model = model_of(PANOPTIC, "MODEL.MaskDINO.TEST.OBJECT_MASK_THRESHOLD", 0.0).eval()
    with torch.no_grad():
        (found,) = model([{**image(50, 64), "height": 75, "width": 96}])
    assert found["sem_seg"].shape == (133, 75, 96)
    segments, info = found["panoptic_seg"]
    assert segments.shape == (75, 96) and segments.dtype == torch.int32
    assert set(segments.unique().tolist()) - {0} == {s["id"] for s in info}
    instances = found["instances"]
    assert instances.image_size == (75, 96) and instances.pred_masks.shape[1:] == (75, 96)
    assert (instances.pred_classes < 80).all()  # things only, next to panoptic results
    assert (instances.pred_boxes.tensor[:, 2:] >= instances.pred_boxes.tensor[:, :2]).all()


def test_boxes_grow_with_the_output() -> None:
    model = model_of(INSTANCE).eval()
    x = image(50, 70)
    with torch.no_grad():
        small, large = (model([{**x, "height": 50 * k, "width": 70 * k}])[0]["instances"] for k in (1, 3))
        outputs, _ = model.sem_seg_head(model.features_of(x["image"][None]))
    torch.testing.assert_close(small.pred_boxes.tensor * 3, large.pred_boxes.tensor)
    in_padded = model.box_postprocess(outputs["pred_boxes"][0], 64, 96)
    assert all(any(torch.allclose(b, p, atol=1e-3) for p in in_padded) for b in small.pred_boxes.tensor)


@pytest.mark.parametrize("name", [INSTANCE, PANOPTIC, SEMANTIC])
def test_batched_equals_single(name: str) -> None:
    model = model_of(name).eval()
    inputs = [image(seed=1), image(seed=2)]
    with torch.no_grad():
        together, alone = model(inputs), [model([x])[0] for x in inputs]
    for a, b in zip(together, alone):
        if "sem_seg" in a:
            torch.testing.assert_close(a["sem_seg"], b["sem_seg"], atol=1e-4, rtol=1e-4)
        if "instances" in a:
            torch.testing.assert_close(a["instances"].scores, b["instances"].scores, atol=1e-4, rtol=1e-4)
            one, other = (r["instances"].pred_boxes.tensor for r in (a, b))
            torch.testing.assert_close(one, other, atol=1e-3, rtol=1e-4)


def test_scores_focus_on_boxes_if_wanted() -> None:
    model = model_of(INSTANCE).eval()
    torch.manual_seed(0)
    given = torch.randn(5, 80), torch.randn(5, 8, 8), torch.rand(5, 4)
    both = model.instance_inference(*given)
    model.focus_on_box = True
    focused = model.instance_inference(*given)
    best = given[0].sigmoid().flatten().topk(10).values
    torch.testing.assert_close(focused.scores, best)
    assert (both.scores < focused.scores).all()


def test_tensor_form_is_the_model() -> None:
    model = model_of(PANOPTIC, "MODEL.MaskDINO.TEST.OBJECT_MASK_THRESHOLD", 0.0).eval()
    x = image(50, 70)
    with torch.no_grad():
        found = TensorInference(model)(x["image"])
        (want,) = model([x])
    torch.testing.assert_close(found["sem_seg"], want["sem_seg"], atol=1e-4, rtol=1e-4)
    assert torch.equal(found["panoptic_seg"], want["panoptic_seg"][0])
    kept = found["valid"]
    assert torch.equal(found["pred_masks"][kept], want["instances"].pred_masks)
    torch.testing.assert_close(found["scores"][kept], want["instances"].scores)
    torch.testing.assert_close(found["boxes"][kept], want["instances"].pred_boxes.tensor)


def exported(name: str) -> tuple[nn.Module, torch.export.ExportedProgram]:
    model = TensorInference(model_of(name, "MODEL.MaskDINO.DEC_LAYERS", 1))
    sides = {i: torch.export.Dim.DYNAMIC(min=33, max=512) for i in (1, 2)}
    with torch.no_grad():
        return model, torch.export.export(model, (image()["image"],), dynamic_shapes={"image": sides})


@pytest.mark.slow
@pytest.mark.parametrize("name", [INSTANCE, PANOPTIC, SEMANTIC])
def test_whole_model_is_exported_for_all_sizes(name: str) -> None:
    model, program = exported(name)
    graph = program.module()
    with torch.no_grad():
        for size in ((64, 96), (50, 70)):
            x = image(*size)["image"]
            found, want = graph(x), model(x)
            for key in want:
                torch.testing.assert_close(found[key], want[key], atol=1e-3, rtol=1e-3)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the exporter
@pytest.mark.parametrize("name", [INSTANCE, SEMANTIC])
def test_whole_model_is_the_same_in_onnx_runtime(name: str, tmp_path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    model, program = exported(name)
    with torch.no_grad():
        torch.onnx.export(program, dynamo=True, opset_version=20).save(str(tmp_path / "model.onnx"))
        session = runtime.InferenceSession(str(tmp_path / "model.onnx"), providers=["CPUExecutionProvider"])
        for size in ((64, 96), (50, 70)):
            x = image(*size)["image"]
            want = model(x)
            found = session.run(None, {session.get_inputs()[0].name: x.numpy()})
            assert len(found) == len(want)
            for value, wanted in zip(found, want.values()):
                torch.testing.assert_close(torch.from_numpy(value), wanted, atol=1e-3, rtol=1e-3)
