"""Whole DensePose models: training, evaluation, tensor form, test-time augmentation, checkpoints."""

from __future__ import annotations

import pickle
import sys
from dataclasses import fields
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from detectron2.data.transforms import NoOpTransform, RotationTransform, TransformList
from detectron2.layers import ShapeSpec
from detectron2.modeling import build_model
from detectron2.modeling.tensor_inference import TensorInference, outputs_to_instances
from detectron2.projects.densepose import (
    DensePoseDatasetMapperTTA,
    DensePoseGeneralizedRCNNWithTTA,
    build_hrfpn_backbone,
)
from detectron2.projects.densepose.modeling import build_densepose_data_filter, build_densepose_head
from detectron2.projects.densepose.modeling.cse import Embedder, VertexDirectEmbedder, VertexFeatureEmbedder
from detectron2.projects.densepose.modeling.cse.utils import get_closest_vertices_mask_from_ES
from detectron2.projects.densepose.modeling.densepose_checkpoint import DensePoseCheckpointer
from detectron2.projects.densepose.modeling.roi_heads.deeplab import NONLocalBlock2D
from detectron2.projects.densepose.modeling.test_time_augmentation import _rotate_back, rotate_box_inverse
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage

sys.path.insert(0, str(Path(__file__).parent))
from densepose_samples import (
    chart_annotation,
    chart_output,
    cse_cfg,
    image,
    labelled,
    make_mesh,
    matches,
    mirror_tables,
    random,
    small_cfg,
    vertex_annotation,
)


def build(cfg: Any) -> Any:
    torch.manual_seed(0)
    model: Any = build_model(cfg)
    for name, weight in model.backbone.named_parameters():
        if "conv3.weight" in name:  # untrained residuals without norms would grow from block to block
            weight.data *= 0.1
    for module in model.modules():
        if isinstance(module, (VertexDirectEmbedder, VertexFeatureEmbedder)):
            for table in module.parameters():
                nn.init.normal_(table)
    return model


def losses_of(model: Any, data: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
    model.train().zero_grad()
    with EventStorage():
        found: dict[str, torch.Tensor] = model(data)
    sum(found.values()).backward()
    assert all(v.isfinite() for v in found.values())
    for name, p in model.named_parameters():
        assert p.grad is None or p.grad.isfinite().all(), name
    return found


def chart_cfg(kind: str) -> Any:
    cfg = small_cfg(NAME="DensePoseDeepLabHead" if "deeplab" in kind else "DensePoseV1ConvXHead")
    node = cfg.MODEL.ROI_DENSEPOSE_HEAD
    if "confidence" in kind:
        node.UV_CONFIDENCE.ENABLED = node.SEGM_CONFIDENCE.ENABLED = True
        node.UV_CONFIDENCE.TYPE = "indep_aniso"
    node.DECODER_ON = "no_decoder" not in kind
    return cfg


# ------------------------------------------------------------------ training
@pytest.mark.parametrize("kind", ["plain", "deeplab confidence", "no_decoder"])
def test_charts_train(kind: str) -> None:
    model = build(chart_cfg(kind))
    found = losses_of(model, [labelled(1, [chart_annotation(1), None]), labelled(2, [chart_annotation(2)])])
    uv = {"loss_densepose_UV"} if "confidence" in kind else {"loss_densepose_U", "loss_densepose_V"}
    names = {"loss_densepose_I", "loss_densepose_S", *uv}
    assert names < set(found)
    assert all(found[name] != 0 for name in names)
    for part in (model.roi_heads.densepose_head, model.roi_heads.densepose_predictor):
        assert all(p.grad is not None and p.grad.any() for p in part.parameters() if p.dim() > 1)


@pytest.mark.parametrize("kind", ["plain", "deeplab"])
@pytest.mark.parametrize("data", [[[]], [[None]], [[], [None]]], ids=str)
def test_batches_without_annotations_train(kind: str, data: list[list[None]]) -> None:
    """Also those without any object; the losses have the same names, for the processes of a run to agree."""
    found = losses_of(build(chart_cfg(kind)), [labelled(i, list(d)) for i, d in enumerate(data)])
    for name in "UVIS":
        assert found[f"loss_densepose_{name}"] == 0


def test_an_image_without_annotations_does_not_disturb_the_others() -> None:
    """Boxes are cut out of their own image, whatever the images before them have."""
    model = build(chart_cfg("plain")).train()
    seen: list[torch.Tensor] = []
    model.roi_heads.densepose_pooler.register_forward_hook(lambda *args: seen.append(args[2]))
    proposals = []
    for datas in ([], [chart_annotation(1)]):
        truth = labelled(0, datas)["instances"]
        found = Instances((64, 80), proposal_boxes=truth.gt_boxes, gt_classes=truth.gt_classes)
        if datas:
            found.gt_boxes, found.gt_densepose = truth.gt_boxes, truth.gt_densepose
        proposals.append(found)
    features = {name: random(i, 2, 32, 64 >> i, 64 >> i) for i, name in enumerate(["p2", "p3", "p4", "p5"])}
    second = {name: maps[1:] for name, maps in features.items()}
    together = model.roi_heads._forward_densepose(features, proposals)
    alone = model.roi_heads._forward_densepose(second, proposals[1:])
    torch.testing.assert_close(seen[0], seen[1])
    for name, value in together.items():
        torch.testing.assert_close(value, alone[name])


def test_embeddings_train(tmp_path: Path) -> None:
    make_mesh(tmp_path, "train_mesh")
    model = build(cse_cfg("train_mesh"))
    data = [labelled(1, [vertex_annotation(1, "train_mesh", 10)]), labelled(2, [])]
    found = losses_of(model, data)
    assert found["loss_densepose_Etrain_mesh"] > 0
    assert model.roi_heads.embedder.embedder_train_mesh.embeddings.grad.any()
    assert losses_of(model, [labelled(2, [])])["loss_densepose_Etrain_mesh"] == 0


def test_the_filter_wants_overlap_and_annotations() -> None:
    proposals = matches([1, None, 3])
    proposals.proposal_boxes.tensor[2] += 15
    kept = build_densepose_data_filter(small_cfg())([], [proposals])[1]
    assert len(kept[0]) == 1
    kept = build_densepose_data_filter(small_cfg(COARSE_SEGM_TRAINED_BY_MASKS=True))([], [proposals])[1]
    assert len(kept[0]) == 2
    proposals.remove("gt_densepose")
    assert build_densepose_data_filter(small_cfg())([], [proposals])[1] == []


# ------------------------------------------------------------------ evaluation
def test_a_batch_is_its_images_one_by_one() -> None:
    model = build(chart_cfg("confidence")).eval()
    data = [image(1), image(2, 50, 90)]
    with torch.no_grad():
        together = model(data)
        alone = [model([item])[0] for item in data]
    for a, b in zip(together, alone):
        assert len(a["instances"]) == len(b["instances"]) > 0
        # The padding of the smaller image differs, so that figures near its border do too.
        torch.testing.assert_close(a["instances"].scores, b["instances"].scores, atol=0.05, rtol=0)
    with torch.no_grad():
        same = model([image(1), image(1)])
    for f in fields(same[0]["instances"].pred_densepose):
        maps = [getattr(s["instances"].pred_densepose, f.name) for s in same]
        if maps[0] is not None:
            torch.testing.assert_close(maps[0], maps[1], atol=1e-4, rtol=1e-4)


def test_given_boxes_and_none() -> None:
    model = build(chart_cfg("plain")).eval()
    boxes = torch.tensor([[4.0, 4, 40, 60], [10, 10, 70, 50]])
    given = Instances((64, 80), pred_boxes=Boxes(boxes), pred_classes=torch.zeros(2, dtype=torch.int64))
    with torch.no_grad():
        (both,) = model.inference([image(1)], [given])
        (one,) = model.inference([image(1)], [given[1:]])
        (none,) = model.inference([image(1)], [given[:0]])
    u = both["instances"].pred_densepose.u
    assert u.shape == (2, 25, 28, 28)
    torch.testing.assert_close(u[1:], one["instances"].pred_densepose.u, atol=1e-3, rtol=1e-3)
    assert not none["instances"].has("pred_densepose")


def test_the_tensor_form_predicts_the_same() -> None:
    model = build(chart_cfg("deeplab confidence")).eval()
    item = image(1)
    with torch.no_grad():
        want = model([item])[0]["instances"]
        outputs = TensorInference(model)(item["image"])
    found = outputs_to_instances(outputs, (64, 80))
    assert len(found) == len(want) > 0
    for f in fields(want.pred_densepose):
        value = getattr(want.pred_densepose, f.name)
        if value is None:
            assert not found.has(f"densepose_{f.name}")
        else:
            torch.testing.assert_close(found.get(f"densepose_{f.name}"), value, atol=1e-4, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["plain", "deeplab confidence"])
def test_exports(kind: str) -> None:
    form = TensorInference(build(chart_cfg(kind)))
    item = image(1)["image"]
    program = torch.export.export(form, (item,))
    with torch.no_grad():
        want, found = form(item), program.module()(item)
    for name, value in want.items():
        torch.testing.assert_close(found[name], value, atol=1e-3, rtol=1e-3, msg=name)


@pytest.mark.slow
def test_compiles_without_a_break() -> None:
    form = TensorInference(build(chart_cfg("plain")))
    compiled = torch.compile(form, fullgraph=True, dynamic=True, backend="aot_eager")
    with torch.no_grad():
        for height, width in ((160, 135), (200, 170)):
            item = image(1, height, width)["image"]
            want, found = form(item), compiled(item)
            for name, value in want.items():
                torch.testing.assert_close(found[name], value, atol=1e-2, rtol=1e-3, msg=name)


# ------------------------------------------------------------------ parts
def test_the_nonlocal_block_is_a_softmax_over_all_pixels() -> None:
    block = NONLocalBlock2D(32, 8, sub_sample=False, bn_layer=False)
    x = random(1, 2, 32, 5, 6)
    torch.testing.assert_close(block(x), x)  # begins as the identity
    nn.init.normal_(block.W.weight)  # type: ignore[arg-type]
    query, key, value = (f(x).flatten(2) for f in (block.theta, block.phi, block.g))
    weights = torch.einsum("ncp,ncq->npq", query, key).softmax(dim=2)
    mean = torch.einsum("npq,ncq->ncp", weights, value).reshape(2, 8, 5, 6)
    torch.testing.assert_close(block(x), x + block.W(mean), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("size", [7, 14, 28])
def test_heads_keep_the_resolution(size: int) -> None:
    for kind in ("plain", "deeplab"):
        head = build_densepose_head(chart_cfg(kind), 32)
        assert head(random(0, 2, 32, size, size)).shape == (2, head.n_out_channels, size, size)


def test_hrnet_levels_halve_each_other() -> None:
    cfg = small_cfg()
    cfg.MODEL.ROI_HEADS.IN_FEATURES = ["p1", "p2", "p3", "p4", "p5"]
    cfg.MODEL.HRNET.HRFPN.OUT_CHANNELS = 16
    for stage in (cfg.MODEL.HRNET.STAGE2, cfg.MODEL.HRNET.STAGE3, cfg.MODEL.HRNET.STAGE4):
        stage.NUM_MODULES = 1
        stage.NUM_BLOCKS = [1] * stage.NUM_BRANCHES
        stage.NUM_CHANNELS = [4 * 2**i for i in range(stage.NUM_BRANCHES)]
    network = build_hrfpn_backbone(cfg, ShapeSpec(channels=3)).eval()
    with torch.no_grad():
        maps = network(random(1, 1, 3, 128, 192))
    assert {n: s.stride for n, s in network.output_shape().items()} == dict(zip(maps, (4, 8, 16, 32, 64)))
    sizes = [tuple(m.shape[1:]) for m in maps.values()]
    for (c, h, w), (_, h2, w2) in pairwise(sizes):
        assert (c, h, w) == (16, 2 * h2, 2 * w2)
    cfg.MODEL.HRNET.STAGE3.FUSE_METHOD = "CAT"
    with pytest.raises(ValueError, match="CAT"):
        build_hrfpn_backbone(cfg, ShapeSpec(channels=3))


def test_closest_vertices_of_the_body() -> None:
    vertices = random(1, 9, 6)
    embedding, segm = random(2, 1, 6, 5, 5), random(3, 1, 2, 5, 5)
    found, mask = get_closest_vertices_mask_from_ES(embedding, segm, 5, 5, vertices, torch.device("cpu"))
    assert torch.equal(mask, segm[0, 1] > segm[0, 0])
    want = torch.cdist(embedding[0].flatten(1).T, vertices).argmin(1).reshape(5, 5)
    assert torch.equal(found, want * mask)
    none, mask = get_closest_vertices_mask_from_ES(embedding, segm * 0, 5, 5, vertices, torch.device("cpu"))
    assert not mask.any()
    assert not none.any()


def test_embedders_read_tables_of_the_right_shape(tmp_path: Path) -> None:
    embedder = VertexFeatureEmbedder(6, 3, 4)
    tables = {"features": np.ones((6, 3), np.float32), "other": np.zeros(1)}
    path = tmp_path / "tables.pkl"
    path.write_bytes(pickle.dumps(tables))
    embedder.load(str(path))
    assert embedder.features.sum() == 18
    assert not embedder.embeddings.any()
    with pytest.raises(ValueError, match=r"\[6, 3\], expected \[7, 3\]"):
        VertexFeatureEmbedder(7, 3, 4).load(str(path))
    embedder.reset_parameters()
    assert not embedder.features.any()


# ------------------------------------------------------------------ test-time augmentation
def tta_cfg(cfg: Any, angles: tuple[int, ...] = ()) -> Any:
    cfg.TEST.AUG.MIN_SIZES = (64,)
    cfg.TEST.AUG.MAX_SIZE = 120
    cfg.TEST.AUG.FLIP = not angles
    cfg.TEST.AUG.ROTATION_ANGLES = angles
    return cfg


def test_versions_for_each_angle() -> None:
    versions = DensePoseDatasetMapperTTA(tta_cfg(small_cfg(), (90, -90)))(
        {**image(1), "height": 128, "width": 160}
    )
    assert [tuple(v["image"].shape) for v in versions] == [(3, 64, 80), (3, 80, 64), (3, 80, 64)]
    for version in versions[1:]:
        box = version["transforms"].apply_box(np.array([[0, 0, 160, 128]]))
        np.testing.assert_allclose(box, [[0, 0, 64, 80]], atol=1e-6)


@pytest.mark.parametrize("angle", [10, -30, 90, 160])
def test_maps_are_turned_back(angle: int) -> None:
    """The values are the positions in the image before the rotation, so they must come back as such."""
    rotation = RotationTransform(60, 80, angle)
    before = np.array([[10.0, 12, 50, 40], [30, 5, 60, 55]])
    after = rotation.apply_box(before)
    output = chart_output(0, 2, 64)
    cells = (np.arange(64) + 0.5) / 64
    steps = np.stack(np.meshgrid(cells, cells), axis=-1)
    places = after[:, None, None, :2] + steps * (after[:, 2:] - after[:, :2])[:, None, None]
    back = rotation.inverse().apply_coords(places.reshape(-1, 2)).reshape(2, 64, 64, 2)
    output.coarse_segm = torch.from_numpy(back).float().movedim(3, 1)
    found = _rotate_back(output, rotation, before, after).coarse_segm
    want = before[:, None, None, :2] + steps * (before[:, 2:] - before[:, :2])[:, None, None]
    inner = (slice(None), slice(None), slice(4, -4), slice(4, -4))
    torch.testing.assert_close(
        found[inner], torch.from_numpy(want).float().movedim(3, 1)[inner], atol=0.02, rtol=0
    )


def test_rotated_boxes_are_found_again() -> None:
    boxes = np.array([[10.0, 12, 50, 40], [30, 5, 60, 55]])
    for angle in (0, 20, -70, 180):
        rotation = RotationTransform(60, 80, angle)
        if not isinstance(rotation, NoOpTransform):
            np.testing.assert_allclose(
                rotate_box_inverse(rotation, rotation.apply_box(boxes)), boxes, atol=1e-6
            )
    with pytest.raises(ValueError, match="45"):
        rotate_box_inverse(RotationTransform(60, 80, 45), boxes)


def test_a_single_plain_version_changes_nothing() -> None:
    cfg = tta_cfg(chart_cfg("confidence"))
    cfg.TEST.AUG.FLIP = False
    model = build(cfg).eval()
    item = image(1)
    with torch.no_grad():
        want = model([item])[0]["instances"]
        found = DensePoseGeneralizedRCNNWithTTA(cfg, model, mirror_tables())([item])[0]["instances"]
    torch.testing.assert_close(found.pred_boxes.tensor, want.pred_boxes.tensor, atol=1e-3, rtol=1e-4)
    torch.testing.assert_close(found.pred_densepose.u, want.pred_densepose.u, atol=1e-3, rtol=1e-3)
    assert found.pred_densepose.sigma_2 is not None


@pytest.mark.parametrize("kind", ["chart", "embedding"])
def test_mirrored_and_rotated_versions_add_up(tmp_path: Path, kind: str) -> None:
    make_mesh(tmp_path, "tta_mesh")
    for angles in ((), (15, -90)):
        cfg = tta_cfg(chart_cfg("plain") if kind == "chart" else cse_cfg("tta_mesh"), angles)
        model = build(cfg).eval()
        mapper = DensePoseDatasetMapperTTA(cfg)
        tables = mirror_tables() if kind == "chart" else None
        with torch.no_grad():
            found = DensePoseGeneralizedRCNNWithTTA(cfg, model, tables, mapper, 2)([image(1)])
        maps = found[0]["instances"].pred_densepose
        assert len(maps) == len(found[0]["instances"]) > 0
        assert all(v.isfinite().all() for v in vars(maps).values() if v is not None)
        assert model.roi_heads.densepose_on


def test_mirroring_embeddings_needs_to_know_the_mesh(tmp_path: Path) -> None:
    make_mesh(tmp_path, "tta_a")
    make_mesh(tmp_path, "tta_b")
    cfg = tta_cfg(cse_cfg("tta_a", "tta_b"))
    model = build(cfg).eval()
    with torch.no_grad(), pytest.raises(ValueError, match="CLASS_TO_MESH_NAME_MAPPING"):
        DensePoseGeneralizedRCNNWithTTA(cfg, model, None)([image(1)])
    cfg.DATASETS.CLASS_TO_MESH_NAME_MAPPING["0"] = "tta_b"
    with torch.no_grad():
        DensePoseGeneralizedRCNNWithTTA(cfg, model, None)([image(1)])


def test_rotations_do_not_add_boxes() -> None:
    cfg = tta_cfg(chart_cfg("plain"), (15,))
    tta = DensePoseGeneralizedRCNNWithTTA(cfg, build(cfg).eval(), mirror_tables())
    rotated = TransformList([NoOpTransform(), RotationTransform(64, 80, 15)])
    plain = TransformList([NoOpTransform()])
    with torch.no_grad():
        both = tta._get_augmented_boxes([image(1), image(1)], [plain, rotated])
        one = tta._get_augmented_boxes([image(1)], [plain])
    torch.testing.assert_close(both, one)


# ------------------------------------------------------------------ checkpoints
def test_names_of_caffe2_are_understood(tmp_path: Path) -> None:
    """The branches of DensePose in Detectron's own names, with background first as here."""
    model = build(chart_cfg("plain"))
    heads = model.roi_heads
    layers = {
        "body_conv_fcn1": heads.densepose_head.body_conv_fcn1,
        "AnnIndex_lowres": heads.densepose_predictor.ann_index_lowres,
        "Index_UV_lowres": heads.densepose_predictor.index_uv_lowres,
        "U_lowres": heads.densepose_predictor.u_lowres,
        "V_lowres": heads.densepose_predictor.v_lowres,
    }
    blobs = {}
    for i, (name, layer) in enumerate(layers.items()):
        blobs[f"{name}_w"] = random(i, *layer.weight.shape).numpy()
        blobs[f"{name}_b"] = random(i + 10, *layer.bias.shape).numpy()
    path = tmp_path / "detectron.pkl"
    path.write_bytes(pickle.dumps({"blobs": blobs}))
    DensePoseCheckpointer(model).load(str(path))
    for name, layer in layers.items():
        np.testing.assert_array_equal(layer.weight.detach().numpy(), blobs[f"{name}_w"])
        np.testing.assert_array_equal(layer.bias.detach().numpy(), blobs[f"{name}_b"])


def test_embeddings_are_read_out_of_a_model(tmp_path: Path) -> None:
    model = build(cse_cfg("any_mesh"))
    DensePoseCheckpointer(model, str(tmp_path)).save("model")
    embedder = Embedder(cse_cfg("any_mesh"))
    assert embedder.has_embeddings("any_mesh")
    assert not embedder.has_embeddings("other")
    embedder.load_from_model_checkpoint(str(tmp_path / "model.pth"))
    torch.testing.assert_close(embedder("any_mesh"), model.roi_heads.embedder("any_mesh"))
