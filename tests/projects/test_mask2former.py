"""Mask2Former: what its parts do, training, inference, weights of other models."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from detectron2.checkpoint import DetectionCheckpointer
from detectron2.engine.run_config import run_config
from detectron2.layers import ShapeSpec
from detectron2.modeling.tensor_inference import TensorInference
from detectron2.modeling.transformer import semantic_scores, top_masks, winning_segments
from detectron2.prediction.augmented import augmented_model
from detectron2.projects.mask2former import (
    CrossAttentionLayer,
    HungarianMatcher,
    MSDeformAttnPixelDecoder,
    MultiScaleMaskedTransformerDecoder,
    SemanticSegmentorWithTTA,
    SetCriterion,
    SwinTransformer,
)
from detectron2.solver import build_lr_scheduler, build_optimizer
from detectron2.structures import BitMasks, Instances
from detectron2.utils.errors import UserError
from detectron2.utils.registry import locate

sys.path.insert(0, str(Path(__file__).parent))
from _mask2former_models import INSTANCE, PANOPTIC, SEMANTIC, config, model_of
from _mask_scenes import image, labelled

# -------------------------------------------------------------------------------------------------- parts


def decoder(**options: Any) -> MultiScaleMaskedTransformerDecoder:
    torch.manual_seed(0)
    defaults: dict[str, Any] = {
        **{"in_channels": 16, "num_classes": 3, "hidden_dim": 16, "num_queries": 5, "nheads": 2},
        **{
            "dim_feedforward": 8,
            "dec_layers": 4,
            "pre_norm": False,
            "mask_dim": 6,
            "enforce_input_project": False,
        },
    }
    return MultiScaleMaskedTransformerDecoder(**(defaults | options))


def levels(n: int = 2, channels: int = 16) -> list[Tensor]:
    return [torch.randn(n, channels, 2 * s, 3 * s) for s in (1, 2, 4)]


def test_queries_look_only_where_their_mask_was() -> None:
    model = decoder()
    logits, masks, forbidden = model.forward_prediction_heads(
        torch.randn(5, 2, 16), torch.randn(2, 6, 8, 12), (4, 6)
    )
    assert logits.shape == (2, 5, 4) and masks.shape == (2, 5, 8, 12)
    assert forbidden.shape == (2 * 2, 5, 24)
    small = nn.functional.interpolate(masks, size=(4, 6), mode="bilinear", align_corners=False).flatten(2)
    for i in range(2):
        for q in range(5):
            outside = small[i, q] < 0
            outside = torch.zeros_like(outside) if outside.all() else outside
            assert torch.equal(forbidden[2 * i, q], outside)
            assert torch.equal(forbidden[2 * i + 1, q], outside)


def test_a_query_without_any_pixel_sees_all() -> None:
    model = decoder()
    nn.init.zeros_(model.mask_embed.layers[2].weight)
    nn.init.constant_(model.mask_embed.layers[2].bias, -1.0)
    _, masks, forbidden = model.forward_prediction_heads(
        torch.randn(5, 1, 16), torch.ones(1, 6, 4, 4), (2, 2)
    )
    assert (masks < 0).all() and not forbidden.any()


def test_levels_take_turns_coarse_first() -> None:
    model = decoder()
    features, seen = levels(), []
    for layer in model.transformer_cross_attention_layers:
        layer.register_forward_hook(lambda module, args, out: seen.append(args[1].shape[0]))
    found = model(features, torch.randn(2, 6, 8, 12))
    assert seen == [6, 24, 96, 6]
    assert len(found["aux_outputs"]) == 4
    with pytest.raises(ValueError, match="3 levels"):
        model(features[:2], torch.randn(2, 6, 8, 12))
    with pytest.raises(ValueError, match="mask_classification"):
        decoder(mask_classification=False)


def test_forbidden_pixels_change_nothing() -> None:
    layer = CrossAttentionLayer(8, 2)
    queries, pixels = torch.randn(3, 1, 8), torch.randn(5, 1, 8)
    forbidden = torch.zeros(2, 3, 5, dtype=torch.bool)
    forbidden[:, :, 2] = True
    changed = pixels.clone()
    changed[2] += 9
    torch.testing.assert_close(layer(queries, pixels, forbidden), layer(queries, changed, forbidden))
    assert not torch.equal(layer(queries, pixels), layer(queries, changed))


def test_pixel_decoder_gives_fine_mask_features_and_three_levels() -> None:
    shapes = {f"res{i}": ShapeSpec(channels=8, stride=2**i) for i in (2, 3, 4, 5)}
    model = MSDeformAttnPixelDecoder(
        shapes,
        transformer_dropout=0.0,
        transformer_nheads=2,
        transformer_dim_feedforward=16,
        transformer_enc_layers=1,
        conv_dim=32,
        mask_dim=6,
        norm="GN",
        transformer_in_features=["res4", "res5"],
        common_stride=4,
    )
    features = {f: torch.randn(1, 8, 64 // s.stride, 96 // s.stride) for f, s in shapes.items()}
    masks, coarse, found = model.forward_features(features)
    assert masks.shape == (1, 6, 16, 24)
    assert [tuple(x.shape[1:]) for x in found] == [(32, 2, 3), (32, 4, 6), (32, 8, 12)]
    assert torch.equal(coarse, found[0])
    with torch.autocast("cpu", torch.bfloat16):
        assert model.forward_features(features)[0].dtype == torch.float32


def test_swin_is_called_like_a_resnet() -> None:
    model = SwinTransformer(embed_dim=8, depths=[1, 1, 1], num_heads=[1, 1, 1], out_indices=(0, 2))
    found = model(torch.randn(1, 3, 30, 40))
    assert {k: tuple(v.shape) for k, v in found.items()} == {"res2": (1, 8, 8, 10), "res4": (1, 32, 2, 3)}
    assert model.train(False) is model
    model.init_weights()
    with pytest.raises(ValueError, match=r"MODEL\.WEIGHTS"):
        model.init_weights("file.pth")


# -------------------------------------------------------------------------------------------------- training


def test_matching_prefers_the_right_masks() -> None:
    masks = torch.zeros(3, 16, 16, dtype=torch.bool)
    masks[0, :8], masks[1, 8:, :8], masks[2, 8:, 8:] = True, True, True
    order = torch.tensor([2, 0, 1])
    logits = torch.zeros(1, 5, 4)
    predicted = torch.full((1, 5, 16, 16), -8.0)
    predicted[0, :3] = torch.where(masks[order], 8.0, -8.0)
    targets = [{"labels": torch.tensor([0, 1, 2]), "masks": masks}]
    ((queries, objects),) = HungarianMatcher(1, 5, 5, 200)(
        {"pred_logits": logits, "pred_masks": predicted}, targets
    )
    assert queries.tolist() == [0, 1, 2] and objects.tolist() == order.tolist()
    with pytest.raises(ValueError, match="must not be 0"):
        HungarianMatcher(0, 0, 0)


def test_perfect_predictions_cost_little() -> None:
    matcher = HungarianMatcher(2, 5, 5, 100)
    criterion = SetCriterion(3, matcher, {}, 0.1, ["labels", "masks"], 100, 3.0, 0.75)
    masks = torch.zeros(2, 16, 16, dtype=torch.bool)
    masks[0, :8], masks[1, 8:] = True, True
    targets = [{"labels": torch.tensor([1, 0]), "masks": masks}]
    right = {
        "pred_logits": torch.tensor([[[0, 20.0, 0, 0], [20.0, 0, 0, 0], [0, 0, 0, 20.0]]]),
        "pred_masks": torch.cat([torch.where(masks, 20.0, -20.0), torch.zeros(1, 16, 16)])[None],
    }
    wrong = {"pred_logits": torch.zeros(1, 3, 4), "pred_masks": torch.full((1, 3, 16, 16), -20.0)}
    losses = criterion({**right, "aux_outputs": [wrong]}, targets)
    assert losses["loss_ce"] < 1e-3 and losses["loss_dice"] < 0.2
    for name in ("loss_ce", "loss_mask", "loss_dice"):
        assert losses[f"{name}_0"] > 5 * losses[name]
    with pytest.raises(ValueError, match="labels, masks"):
        criterion.get_loss("boxes", right, targets, [], 1.0)


@pytest.mark.parametrize("counts", [(3, 1), (2, 0), (0, 0)])
def test_a_step_gives_every_parameter_a_finite_gradient(counts: tuple[int, int]) -> None:
    model = model_of(PANOPTIC)
    losses = model([labelled(64, 96, counts[0]), labelled(50, 64, counts[1], 1)])
    assert set(losses) == {
        f"loss_{kind}{end}" for kind in ("ce", "mask", "dice") for end in ("", "_0", "_1", "_2")
    }
    sum(losses.values()).backward()
    without = [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert without == []
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)
    assert all(v.isfinite() for v in losses.values())
    if counts == (0, 0):
        assert losses["loss_mask"] == 0 and losses["loss_dice"] == 0


def test_training_lowers_the_loss() -> None:
    model = model_of(INSTANCE, "MODEL.MASK_FORMER.DEC_LAYERS", 2, "SOLVER.BASE_LR", 2e-3)
    optimizer = build_optimizer(config(INSTANCE, "SOLVER.BASE_LR", 2e-3), model)
    data = [labelled(64, 64, 2)]
    values = []
    for _ in range(12):
        loss = sum(model(data).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        values.append(float(loss.detach()))
    assert sum(values[-3:]) < 0.8 * sum(values[:3])


def test_bit_masks_and_tensors_are_the_same_ground_truth() -> None:
    model = model_of(INSTANCE)
    data = labelled(64, 64, 2)
    totals = []
    for masks in (data["instances"].gt_masks, BitMasks(data["instances"].gt_masks)):
        data["instances"].gt_masks = masks
        torch.manual_seed(0)
        totals.append(float(sum(model([data]).values()).detach()))
    assert totals[0] == totals[1]
    with pytest.raises(ValueError, match="instances"):
        model([image()])


def test_optimizer_and_schedule_of_the_recipe() -> None:
    cfg = config(SEMANTIC)
    optimizer = build_optimizer(cfg, model_of(SEMANTIC))
    model = model_of(SEMANTIC)
    optimizer = build_optimizer(cfg, model)
    options = {
        id(p): (group["lr"], group["weight_decay"])
        for group in optimizer.param_groups
        for p in group["params"]
    }
    found = {name: options[id(p)] for name, p in model.named_parameters()}
    base = cfg.SOLVER.BASE_LR
    assert found["sem_seg_head.predictor.class_embed.weight"] == (base, 0.05)
    assert found["sem_seg_head.predictor.query_feat.weight"] == (base, 0.0)
    assert found["sem_seg_head.predictor.decoder_norm.weight"] == (base, 0.0)
    assert found["sem_seg_head.pixel_decoder.transformer.level_embed"] == (base, 0.05)
    assert found["backbone.layers.0.blocks.0.attn.qkv.weight"] == (pytest.approx(base / 10), 0.05)
    table = "backbone.layers.0.blocks.0.attn.relative_position_bias_table"
    assert found[table] == (pytest.approx(base / 10), 0.0)
    assert type(optimizer).__mro__[1] is torch.optim.AdamW  # with clipping
    schedule = build_lr_scheduler(cfg, optimizer)
    for _ in range(3):
        optimizer.step()
        schedule.step()
    assert optimizer.param_groups[-1]["lr"] == pytest.approx(
        schedule.base_lrs[-1] * (1 - 3 / cfg.SOLVER.MAX_ITER) ** 0.9
    )


# -------------------------------------------------------------------------------------------------- inference


def test_all_results_of_one_model() -> None:
    model = model_of(PANOPTIC, "MODEL.MASK_FORMER.TEST.OBJECT_MASK_THRESHOLD", 0.0).eval()
    with torch.no_grad():
        (found,) = model([{**image(50, 64), "height": 75, "width": 96}])
    assert found["sem_seg"].shape == (133, 75, 96)
    segments, info = found["panoptic_seg"]
    assert segments.shape == (75, 96) and segments.dtype == torch.int32
    assert set(segments.unique().tolist()) - {0} == {s["id"] for s in info}
    instances = found["instances"]
    assert instances.image_size == (75, 96) and instances.pred_masks.shape[1:] == (75, 96)
    assert (instances.pred_classes < 80).all()  # things only, next to panoptic results


@pytest.mark.parametrize("name", [INSTANCE, SEMANTIC])
def test_batched_equals_single(name: str) -> None:
    model = model_of(name).eval()
    inputs = [image(seed=1), image(seed=2)]
    with torch.no_grad():
        together, alone = model(inputs), [model([x])[0] for x in inputs]
    for a, b in zip(together, alone):
        for key in a:
            x, y = (r[key] if key == "sem_seg" else r[key].scores for r in (a, b))
            torch.testing.assert_close(x, y, atol=1e-4, rtol=1e-4)


def random_queries(q: int = 7, classes: int = 4) -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    return (torch.randn(q, classes + 1) * 2).softmax(-1)[:, :-1], torch.randn(q, 9, 11) * 4


def test_semantic_scores_are_a_sum_over_queries() -> None:
    p, masks = random_queries()
    m = masks.sigmoid()
    want = sum(p[q, :, None, None] * m[q] for q in range(7))
    torch.testing.assert_close(semantic_scores(p, masks), want)


def test_top_masks() -> None:
    p, masks = random_queries()
    top = top_masks(p, masks, 5)
    for i, k in enumerate(p.flatten().argsort(descending=True)[:5].tolist()):
        q, c = divmod(k, 4)
        inside = masks[q] > 0
        assert top.queries[i] == q and top.classes[i] == c and torch.equal(top.masks[i], inside)
        assert top.scores[i] == p[q, c]
        want = masks[q].sigmoid()[inside].mean()
        torch.testing.assert_close(top.certainty[i], want, atol=1e-5, rtol=1e-4)
    assert len(top_masks(p, masks, 1000).scores) == 28


def slow_segments(
    scores: Tensor, classes: Tensor, masks: Tensor, wanted: Tensor, thing: Tensor, overlap: float
) -> tuple[Tensor, list[int]]:
    """One query after the other, as the rule says."""
    out, segment_of, stuff = torch.zeros(masks.shape[1:], dtype=torch.int32), [0] * len(scores), {}
    if not wanted.any():
        return out, segment_of
    rank = scores[:, None, None] * masks
    rank[~wanted] = -1
    winner, last = rank.argmax(0), 0
    for q in range(len(scores)):
        solid, won = masks[q] >= 0.5, winner == q
        if not wanted[q] or not (solid & won).any() or won.sum() / solid.sum() < overlap:
            continue
        label = int(classes[q])
        if not thing[q] and label in stuff:
            segment_of[q] = stuff[label]
        else:
            last += 1
            segment_of[q] = last
            if not thing[q]:
                stuff[label] = last
        out[solid & won] = segment_of[q]
    return out, segment_of


@pytest.mark.parametrize("overlap", [0.0, 0.4, 0.8])
@pytest.mark.parametrize("q", [0, 1, 6, 12])
def test_segments_follow_the_rule(q: int, overlap: float) -> None:
    for seed in range(5):
        torch.manual_seed(seed)
        given = (
            torch.rand(q),
            torch.randint(0, 3, (q,)),
            (torch.randn(q, 8, 9) * 3).sigmoid(),
            torch.rand(q) > 0.3,
        )
        thing = given[1] == 0
        want, segments = slow_segments(*given, thing, overlap)
        found, of_queries = winning_segments(*given, thing, overlap)
        assert torch.equal(found, want)
        assert of_queries.tolist() == segments


def test_augmented_scores_are_averaged() -> None:
    cfg = config(SEMANTIC, "TEST.AUG.MIN_SIZES", (64,), "TEST.AUG.FLIP", True)
    model = model_of(SEMANTIC).eval()
    x = image(64, 64)
    with torch.no_grad():
        (found,) = augmented_model(run_config(cfg), model)([x])
        plain = model([{**x, "image": x["image"].byte()}])[0]["sem_seg"]
        mirrored = model([{"image": x["image"].byte().flip(2)}])[0]["sem_seg"].flip(2)
    torch.testing.assert_close(found["sem_seg"], (plain + mirrored) / 2, atol=1e-3, rtol=1e-2)
    assert isinstance(augmented_model(run_config(cfg), model), SemanticSegmentorWithTTA)
    model.panoptic_on = True
    with pytest.raises(UserError, match="not defined for MaskFormer"):
        augmented_model(run_config(cfg), model)


def test_tensor_form_is_the_model() -> None:
    model = model_of(PANOPTIC, "MODEL.MASK_FORMER.TEST.OBJECT_MASK_THRESHOLD", 0.0).eval()
    x = image(50, 70)
    with torch.no_grad():
        found = TensorInference(model)(x["image"])
        (want,) = model([x])
    torch.testing.assert_close(found["sem_seg"], want["sem_seg"], atol=1e-4, rtol=1e-4)
    assert torch.equal(found["panoptic_seg"], want["panoptic_seg"][0])
    kept = found["valid"]
    assert torch.equal(found["pred_masks"][kept], want["instances"].pred_masks)
    torch.testing.assert_close(found["scores"][kept], want["instances"].scores)
    ids = {s["id"]: s["category_id"] for s in want["panoptic_seg"][1]}
    of_queries = dict(zip(found["query_segments"].tolist(), found["query_classes"].tolist()))
    assert {k: v for k, v in of_queries.items() if k} == ids


@pytest.mark.slow
@pytest.mark.parametrize("name", [SEMANTIC, PANOPTIC])
def test_whole_model_is_exported_for_all_sizes(name: str) -> None:
    model = TensorInference(model_of(name, "MODEL.MASK_FORMER.DEC_LAYERS", 2))
    auto = {1: torch.export.Dim.DYNAMIC(min=33, max=512), 2: torch.export.Dim.DYNAMIC(min=33, max=512)}
    with torch.no_grad():
        graph = torch.export.export(model, (image(64, 96)["image"],), dynamic_shapes={"image": auto}).module()
        for size in ((64, 96), (50, 70)):
            x = image(*size)["image"]
            found, want = graph(x), model(x)
            for key in want:
                torch.testing.assert_close(found[key], want[key], atol=1e-4, rtol=1e-3)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the exporter
def test_whole_model_is_the_same_in_onnx_runtime(tmp_path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    model = TensorInference(model_of(SEMANTIC, "MODEL.MASK_FORMER.DEC_LAYERS", 2))
    sides = {i: torch.export.Dim.DYNAMIC(min=33, max=512) for i in (1, 2)}
    with torch.no_grad():
        graph = torch.export.export(model, (image()["image"],), dynamic_shapes={"image": sides})
        torch.onnx.export(graph, dynamo=True, opset_version=20).save(str(tmp_path / "model.onnx"))
        session = runtime.InferenceSession(str(tmp_path / "model.onnx"), providers=["CPUExecutionProvider"])
        for size in ((64, 96), (50, 70)):
            x = image(*size)["image"]
            (found,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
            torch.testing.assert_close(torch.from_numpy(found), model(x)["sem_seg"], atol=1e-4, rtol=1e-3)


# -------------------------------------------------------------------------------------------------- weights


def test_old_names_are_renamed_and_new_ones_kept() -> None:
    model = model_of(PANOPTIC)
    plain = {k: v.clone() + 1 for k, v in model.state_dict().items()}  # without versions
    old = {
        k.replace("sem_seg_head.pixel_decoder.", "sem_seg_head.").replace("query_feat", "static_query"): v
        for k, v in plain.items()
    }
    assert "sem_seg_head.predictor.static_query.weight" in old
    for given in (plain, old):
        other = model_of(PANOPTIC)
        result = other.load_state_dict(given)
        assert not result.missing_keys and not result.unexpected_keys
        assert all(torch.equal(v, plain[k]) for k, v in other.state_dict().items())


def test_other_classes_and_queries_start_anew(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    old = model_of(INSTANCE)
    DetectionCheckpointer(old, str(tmp_path)).save("released")
    other = model_of(INSTANCE, "MODEL.SEM_SEG_HEAD.NUM_CLASSES", 5, "MODEL.MASK_FORMER.NUM_OBJECT_QUERIES", 9)
    result = DetectionCheckpointer(other).load(str(tmp_path / "released.pth"))
    assert result is not None
    text = caplog.text
    for name in ("class_embed.weight", "class_embed.bias", "query_feat.weight", "query_embed.weight"):
        assert name in text
    key = "sem_seg_head.predictor.mask_embed.layers.0.weight"
    assert torch.equal(other.state_dict()[key], old.state_dict()[key])


def test_old_dotted_paths_find_the_new_objects() -> None:
    from detectron2.projects import mask2former

    found = locate("mask2former.modeling.transformer_decoder.position_encoding.PositionEmbeddingSine")
    assert found is mask2former.PositionEmbeddingSine
    assert locate("mask2former.MaskFormer") is mask2former.MaskFormer
    with pytest.raises(ImportError, match="has no"):
        locate("mask2former.modeling.Nothing")


def test_pictures_of_nothing_need_no_masks() -> None:
    model = model_of(INSTANCE)
    item = {**image(), "instances": Instances((64, 96), gt_classes=torch.zeros(0, dtype=torch.int64))}
    losses = model([item])
    assert all(value.isfinite() for value in losses.values())
