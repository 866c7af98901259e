"""EVA-02: rotary positions, whole models of small size, configs and weights."""

import math
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from detectron2 import model_zoo
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import LazyConfig, instantiate
from detectron2.engine.run_config import run_config
from detectron2.modeling.tensor_inference import TensorInference
from detectron2.projects.eva02 import (
    EMAState,
    EMAUpdater,
    SwiGLU,
    VisionRotaryEmbeddingFast,
    ViT,
    rotate_half,
)
from detectron2.structures import BitMasks, Boxes, Instances
from detectron2.utils.events import EventStorage

sys.path.insert(0, str(Path(__file__).parent))
from facts import some_slow
from modern import configs, differences, state_dicts, tree

NAMES = sorted(name for name in configs("lazy") if name.startswith("eva02/"))
BASE = "EVA-02/configs/eva2_mim_to_coco/eva2_coco_cascade_mask_rcnn_vitdet_b_4attn_1024_lrd0p7.py"


def own_name(name: str) -> str:
    return name.replace("eva02/", "EVA-02/configs/")


@pytest.mark.parametrize("name", some_slow(NAMES, NAMES[::4]))
def test_config(name: str) -> None:
    assert differences(tree(model_zoo.get_config(own_name(name))), configs("lazy")[name]) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_state_dict(name: str) -> None:
    cfg = model_zoo.get_config(own_name(name)).model
    for predictor in cfg.roi_heads.box_predictors:
        predictor.pop("get_fed_loss_cls_weights", None)  # they come from the annotations of LVIS
        predictor.use_fed_loss = False
    with torch.device("meta"):
        model = instantiate(cfg)
    found = {key: list(value.shape) for key, value in model.state_dict().items()}
    want = {k: v for k, v in state_dicts()[name].items() if "fed_loss_cls_weights" not in k}
    assert found == want


def test_a_saved_config_can_be_loaded(tmp_path: Path) -> None:
    LazyConfig.save(model_zoo.get_config(BASE), str(tmp_path / "config.yaml"))
    again = LazyConfig.load(str(tmp_path / "config.yaml"))
    assert again.model.backbone.net._target_ == "detectron2.projects.eva02.ViT"


def test_options_of_the_average() -> None:
    cfg = model_zoo.get_config(BASE)
    assert not run_config(cfg).options.ema
    cfg.train.model_ema.enabled = True
    options = run_config(cfg).options
    assert options.ema and options.ema_decay == 0.9999


# ---------------------------------------------------------------- positions
def test_rotation_is_that_of_complex_numbers() -> None:
    dim, side = 4, 3
    rope = VisionRotaryEmbeddingFast(dim, pt_seq_len=6, ft_seq_len=side)
    x = torch.randn(2, side * side, 2 * dim)
    turned = rope(x)
    for position in range(side * side):
        for pair in range(dim):
            along_rows = pair < dim // 2
            t = (position // side if along_rows else position % side) * 6 / side
            angle = t * 10000 ** (-2 * (pair % (dim // 2)) / dim)
            z = torch.complex(x[:, position, 2 * pair], x[:, position, 2 * pair + 1])
            want = z * complex(math.cos(angle), math.sin(angle))
            got = torch.complex(turned[:, position, 2 * pair], turned[:, position, 2 * pair + 1])
            torch.testing.assert_close(got, want)


def test_products_depend_on_the_distance_only() -> None:
    rope = VisionRotaryEmbeddingFast(8, pt_seq_len=5)
    q, k = torch.randn(16).expand(25, 16), torch.randn(16).expand(25, 16)
    logits = (rope(q) @ rope(k).T).view(5, 5, 5, 5)
    torch.testing.assert_close(logits[:4, :4, :4, :4], logits[1:, 1:, 1:, 1:], atol=1e-4, rtol=1e-4)
    assert torch.equal(rotate_half(rotate_half(q)), -q)


def test_tables_of_another_size_are_not_taken() -> None:
    small, large = VisionRotaryEmbeddingFast(4, ft_seq_len=3), VisionRotaryEmbeddingFast(4, ft_seq_len=5)
    want = large.freqs_cos.clone()
    large.load_state_dict(small.state_dict())
    assert torch.equal(large.freqs_cos, want)
    with pytest.raises(ValueError, match="img_size"):
        large(torch.zeros(1, 9, 8))


def test_checkpoints_of_another_image_size_load(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    torch.manual_seed(0)
    options = {"embed_dim": 16, "depth": 1, "num_heads": 2, "window_size": 2, "pretrain_img_size": 64}
    trained, other = ViT(img_size=64, **options), ViT(img_size=128, **options)
    torch.save({"model": trained.state_dict()}, tmp_path / "eva.pth")
    table = other.rope_glb.freqs_cos.clone()
    DetectionCheckpointer(other).load(str(tmp_path / "eva.pth"))
    assert torch.equal(other.blocks[0].mlp.w1.weight, trained.blocks[0].mlp.w1.weight)
    assert torch.equal(other.rope_glb.freqs_cos, table)


def test_swiglu() -> None:
    m = SwiGLU(6, 10, subln=True)
    x = torch.randn(3, 6)
    gate, value = x @ m.w1.weight.T + m.w1.bias, x @ m.w2.weight.T + m.w2.bias
    hidden = nn.functional.layer_norm(gate * gate.sigmoid() * value, (10,))
    torch.testing.assert_close(m(x), hidden @ m.w3.weight.T + m.w3.bias)


# ---------------------------------------------------------------- whole models
def small_model(**heads: object) -> nn.Module:
    torch.manual_seed(0)
    cfg = model_zoo.get_config(BASE).model
    cfg.backbone.net.update(img_size=64, embed_dim=32, depth=2, num_heads=2, window_size=2)
    cfg.backbone.net.update(window_block_indexes=[0], drop_path_rate=0.0)
    cfg.backbone.update(square_pad=64, out_channels=16)
    cfg.proposal_generator.head.in_channels = 16
    cfg.proposal_generator.update(pre_nms_topk=[50, 20], post_nms_topk=[40, 20])
    for head, predictor in zip(cfg.roi_heads.box_heads, cfg.roi_heads.box_predictors):
        head.input_shape.channels = 16
        head.update(conv_dims=[8], fc_dims=[16])
        predictor.input_shape.channels = 16
        predictor.update(test_topk_per_image=8, test_score_thresh=0.0)
    cfg.roi_heads.mask_head.input_shape.channels = 16
    cfg.roi_heads.mask_head.conv_dims = [8, 8]
    cfg.roi_heads.update(num_classes=3, **heads)
    model: nn.Module = instantiate(cfg)
    return model


def picture(height: int, width: int, objects: int = 0) -> dict[str, object]:
    truth = Instances((height, width))
    truth.gt_boxes = Boxes(torch.tensor([[4.0, 4, 30, 40]] * objects).reshape(-1, 4))
    truth.gt_classes = torch.zeros(objects, dtype=torch.int64)
    truth.gt_masks = BitMasks(torch.ones(objects, height, width, dtype=torch.bool))
    image = torch.rand(3, height, width, generator=torch.Generator().manual_seed(height)) * 255
    return {"image": image, "instances": truth}


def test_a_step_of_training() -> None:
    model = small_model().train()
    with EventStorage():
        losses = model([picture(64, 48, 2), picture(40, 64)])
    sum(losses.values()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
    with EventStorage():
        losses = model([picture(64, 64)])
    assert all(loss.isfinite() for loss in losses.values())


@torch.no_grad()
def test_batched_equals_single() -> None:
    model = small_model().eval()
    items = [picture(64, 48), picture(40, 64)]
    for together, alone in zip(model(items), [model([item])[0] for item in items]):
        a, b = together["instances"], alone["instances"]
        torch.testing.assert_close(a.pred_boxes.tensor, b.pred_boxes.tensor, atol=1e-3, rtol=1e-4)
        torch.testing.assert_close(a.scores, b.scores)


@torch.no_grad()
def test_soft_nms_and_maskness_change_scores() -> None:
    plain, soft = small_model().eval(), small_model(use_soft_nms=True, class_wise=True).eval()
    sure = small_model(maskness_thresh=0.5).eval()
    item = picture(64, 64)
    want = plain([item])[0]["instances"]
    got = soft([item])[0]["instances"]
    assert len(got) > len(want) == 8
    assert got.scores[0] == want.scores[0]
    masked = sure([item])[0]["instances"]
    assert torch.equal(masked.pred_boxes.tensor, want.pred_boxes.tensor)
    assert (masked.scores <= want.scores).all()
    kept = plain.inference([item], do_postprocess=False, keep_all_before_merge=True)[0]
    assert len(kept) > len(want)
    with pytest.raises(ValueError, match="soft"):
        TensorInference(soft)


@torch.no_grad()
def test_tensor_form() -> None:
    model = small_model().eval()
    item = picture(64, 64)
    found = TensorInference(model)(item["image"][None])
    want = model.inference([item], do_postprocess=False)[0]
    count = int(found["valid"][0].sum())
    assert count == len(want)
    torch.testing.assert_close(found["boxes"][0, :count], want.pred_boxes.tensor, atol=1e-3, rtol=1e-4)


def test_average() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    state = EMAState.FromModel(model)
    before = model[0].weight.detach().clone()
    with torch.no_grad():
        model[0].weight += 1
        model[1].num_batches_tracked += 3
    EMAUpdater(state, decay=0.75).update(model)
    torch.testing.assert_close(state.state["0.weight"], before + 0.25)
    assert state.state["1.num_batches_tracked"] == 3
    with state.apply_and_restore(model):
        torch.testing.assert_close(model[0].weight, before + 0.25)
    torch.testing.assert_close(model[0].weight, before + 1)
    with pytest.raises(ValueError, match="another model"):
        state.apply_to(nn.Linear(2, 2))
