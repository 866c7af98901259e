"""DensePose's losses against slow references."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from detectron2.projects.densepose.modeling import build_densepose_embedder, build_densepose_losses
from detectron2.projects.densepose.modeling.losses.chart_with_confidences import (
    IIDIsotropicGaussianUVLoss,
    IndepAnisotropicGaussianUVLoss,
)
from detectron2.projects.densepose.modeling.losses.utils import (
    BilinearInterpolationHelper,
    ChartBasedAnnotationsAccumulator,
    extract_packed_annotations_from_matches,
    resample_data,
    sample_random_indices,
)
from detectron2.projects.densepose.structures import DensePoseDataRelative, DensePoseList

sys.path.insert(0, str(Path(__file__).parent))
from densepose_samples import (
    chart_output,
    cse_cfg,
    embedding_output,
    make_mesh,
    matches,
    random,
    small_cfg,
    vertex_annotation,
)


def packed(images: list[Any]) -> Any:
    return extract_packed_annotations_from_matches(images, ChartBasedAnnotationsAccumulator())


def learnable(output: Any) -> Any:
    for maps in vars(output).values():
        maps.requires_grad_()
    return output


# ------------------------------------------------------------------ annotated points
def test_points_are_counted_through_all_images() -> None:
    first, second = matches([None, 1]), matches([2, None, 3])
    found = packed([first, second])
    assert found.bbox_indices.tolist() == [1, 2, 4]
    assert found.point_bbox_indices.tolist() == [1] * 12 + [2] * 12 + [4] * 12
    assert found.point_bbox_with_dp_indices.tolist() == [0] * 12 + [1] * 12 + [2] * 12
    torch.testing.assert_close(found.x_gt[12:24], second.gt_densepose[0].x)
    assert packed([matches([None])]) is None
    assert packed([]) is None


def test_boxes_without_part_labels_are_marked() -> None:
    image = matches([1, 2])
    del image.gt_densepose[0].segm
    found = packed([image])
    assert (found.coarse_segm_gt[0] == -1).all()
    assert (found.coarse_segm_gt[1] >= 0).all()
    loss = build_densepose_losses(small_cfg(LOSS_NAME="DensePoseChartLoss"))
    output = chart_output(0, 2, 28)
    alone = image[1:]
    torch.testing.assert_close(
        loss([image], output)["loss_densepose_S"], loss([alone], output[1])["loss_densepose_S"]
    )


def test_maps_are_read_between_cells() -> None:
    """Linear maps are read exactly: their values are the positions themselves."""
    image = matches([1, 2])
    image.gt_densepose[0].x[0] = 2.0  # left of its proposal
    found = packed([image])
    helper = BilinearInterpolationHelper.from_matches(found, (16, 20))
    rows = torch.arange(16.0)[:, None].expand(16, 20)
    columns = torch.arange(20.0).expand(16, 20)
    maps = torch.stack([rows, columns]).expand(2, 2, 16, 20)
    at = helper.extract_channels_at_points(maps)
    near = found.point_bbox_with_dp_indices
    for k, axis in enumerate("yx"):
        place = (
            getattr(found, f"{axis}_gt") / 256 * found.bbox_xywh_gt[near, 3 - k]
            + found.bbox_xywh_gt[near, 1 - k]
        )
        cell = (place - found.bbox_xywh_est[near, 1 - k]) / found.bbox_xywh_est[near, 3 - k] * (16, 20)[k]
        inside = helper.j_valid & (cell < (16, 20)[k] - 1)
        torch.testing.assert_close(at[inside, k], cell[inside])
    assert helper.j_valid.tolist() == [False] + [True] * 23


def test_resampling_to_the_same_box_keeps_the_upper_left_corner() -> None:
    maps = random(0, 2, 3, 9, 9)
    boxes = torch.tensor([[1.0, 2, 30, 40], [5, 5, 8, 8]])
    found = resample_data(maps, boxes, boxes, 9, 9, mode="bilinear")
    torch.testing.assert_close(found[:, :, 0, 0], maps[:, :, 0, 0])
    far = boxes + torch.tensor([1000.0, 0, 0, 0])
    assert not resample_data(maps, boxes, far, 5, 7).any()


def test_samples_are_different_indices() -> None:
    drawn = sample_random_indices(50, 20)
    assert drawn is not None
    assert len(set(drawn.tolist())) == 20
    assert max(drawn.tolist()) < 50
    assert sample_random_indices(20, 20) is None


# ------------------------------------------------------------------ likelihoods
def test_likelihoods_are_those_of_normal_distributions() -> None:
    u, v, s, ku, kv, tu, tv = random(1, 7, 30)
    variance = F.softplus(s) + 0.02
    error = torch.stack([tu, tv], dim=1)
    mean = torch.stack([u, v], dim=1)
    direction = torch.stack([ku, kv], dim=1)
    identity = torch.eye(2) * variance[:, None, None]

    def want(covariance: Tensor) -> Tensor:
        return -torch.distributions.MultivariateNormal(mean, covariance).log_prob(error).sum()

    aniso = IndepAnisotropicGaussianUVLoss(0.02)(u, v, s, ku, kv, tu, tv)
    torch.testing.assert_close(
        aniso - 15 * torch.log(torch.tensor(2 * torch.pi)),
        want(identity + direction[:, :, None] * direction[:, None])
        - 30 * torch.log(torch.tensor(2 * torch.pi)),
        rtol=1e-4,
        atol=1e-3,
    )
    iid = IIDIsotropicGaussianUVLoss(0.02)(u, v, s, tu, tv)
    constant = 15 * torch.log(torch.tensor(2 * torch.pi))  # half of that of two dimensions
    torch.testing.assert_close(iid + constant, want(identity), rtol=1e-4, atol=1e-3)


# ------------------------------------------------------------------ whole losses
@pytest.mark.parametrize("name", ["DensePoseChartLoss", "DensePoseChartWithConfidenceLoss"])
def test_without_annotations_losses_are_zero_and_attached(name: str) -> None:
    loss = build_densepose_losses(small_cfg(LOSS_NAME=name))
    for images in ([], [matches([None, None])]):
        output = learnable(chart_output(0, 2, 28))
        found = loss(images, output)
        assert set(found) == {f"loss_densepose_{k}" for k in "UVIS"}
        assert all(v == 0 for v in found.values())
        sum(found.values()).backward()
        assert all(maps.grad is not None and not maps.grad.any() for maps in vars(output).values())


def test_chart_losses_point_by_point() -> None:
    image, output = matches([1, 2]), chart_output(0, 2, 28)
    cfg = small_cfg(LOSS_NAME="DensePoseChartLoss", POINT_REGRESSION_WEIGHTS=0.5, PART_WEIGHTS=2.0)
    found = build_densepose_losses(cfg)([image], output)
    points = packed([image])
    helper = BilinearInterpolationHelper.from_matches(points, (28, 28))
    u, fine = 0.0, []
    for p in range(24):
        if not helper.j_valid[p]:
            continue
        box, label = int(points.point_bbox_indices[p]), int(points.fine_segm_labels_gt[p])
        y, x = helper.y_lo[p], helper.x_lo[p]
        y2, x2 = helper.y_hi[p], helper.x_hi[p]
        weights = (helper.w_ylo_xlo[p], helper.w_ylo_xhi[p], helper.w_yhi_xlo[p], helper.w_yhi_xhi[p])
        cells = ((y, x), (y, x2), (y2, x), (y2, x2))
        value = sum(w * output.u[box, label, a, b] for w, (a, b) in zip(weights, cells))
        u += float(F.smooth_l1_loss(value, points.u_gt[p])) * 0.5
        logits = sum(w * output.fine_segm[box, :, a, b] for w, (a, b) in zip(weights, cells))
        fine.append(float(F.cross_entropy(logits, torch.tensor(label))) * 2)
    torch.testing.assert_close(float(found["loss_densepose_U"]), u, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(float(found["loss_densepose_I"]), sum(fine) / len(fine), rtol=1e-4, atol=1e-5)


def cse_matches(mesh: str) -> Any:
    image = matches([1, 2])
    datas = [DensePoseDataRelative(vertex_annotation(i, mesh, 10)) for i in range(2)]
    image.gt_densepose = DensePoseList(datas, image.gt_boxes.tensor, (60, 80))
    return image


@pytest.mark.parametrize("name", ["EmbeddingLoss", "SoftEmbeddingLoss"])
def test_embedding_losses(tmp_path: Path, name: str) -> None:
    make_mesh(tmp_path, "loss_a")
    make_mesh(tmp_path, "loss_b")
    cfg = cse_cfg("loss_a", "loss_b")
    cse = cfg.MODEL.ROI_DENSEPOSE_HEAD.CSE
    cse.EMBED_LOSS_NAME = name
    cse.EMBEDDING_DIST_GAUSS_SIGMA = 0.3
    cse.SHAPE_TO_SHAPE_CYCLE_LOSS.ENABLED = cse.PIX_TO_SHAPE_CYCLE_LOSS.ENABLED = True
    embedder: Any = build_densepose_embedder(cfg)
    for i, table in enumerate(embedder.parameters()):
        table.data.copy_(random(i, *table.shape))
    loss = build_densepose_losses(cfg)
    output = learnable(embedding_output(0, 2, 28))
    found = loss([cse_matches("loss_a")], output, embedder)
    names = {
        f"loss_{k}"
        for k in ("densepose_S", "densepose_Eloss_a", "densepose_Eloss_b", "shape2shape", "pix2shape")
    }
    assert set(found) == names
    assert found["loss_densepose_Eloss_b"] == 0
    assert found["loss_densepose_Eloss_a"] > 0
    sum(found.values()).backward()
    for tensor in (output.embedding, output.coarse_segm, *embedder.parameters()):
        assert tensor.grad is not None
        assert tensor.grad.isfinite().all()
    assert output.embedding.grad.any()
    none = loss([], output, embedder)
    assert set(none) == names
    assert all(v == 0 for v in none.values())


def test_perfect_embeddings_have_almost_no_loss(tmp_path: Path) -> None:
    make_mesh(tmp_path, "perfect")
    cfg = cse_cfg("perfect")
    embedder: Any = build_densepose_embedder(cfg)
    (table,) = embedder.parameters()
    table.data.copy_(random(7, 10, 6))
    image = cse_matches("perfect")
    image = image[:1]
    vertex = int(image.gt_densepose[0].vertex_ids[0])
    image.gt_densepose[0].vertex_ids[:] = vertex
    output = embedding_output(0, 1, 28)
    output.embedding[:] = embedder("perfect")[vertex][:, None, None].detach() * 3
    found = build_densepose_losses(cfg)([image], output, embedder)
    assert found["loss_densepose_Eperfect"] < 1e-3


def test_one_mesh_alone_has_no_cycle(tmp_path: Path) -> None:
    make_mesh(tmp_path, "alone")
    cfg = cse_cfg("alone")
    cfg.MODEL.ROI_DENSEPOSE_HEAD.CSE.SHAPE_TO_SHAPE_CYCLE_LOSS.ENABLED = True
    loss = build_densepose_losses(cfg)
    found = loss([cse_matches("alone")], embedding_output(0, 2, 28), build_densepose_embedder(cfg))
    assert found["loss_shape2shape"] == 0
