"""DensePose's annotations, outputs, meshes and configs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from detectron2.config import get_cfg
from detectron2.data import transforms as T
from detectron2.projects.densepose import add_densepose_config, load_bootstrap_config
from detectron2.projects.densepose.data.meshes.catalog import MeshCatalog
from detectron2.projects.densepose.structures import (
    DensePoseChartPredictorOutput,
    DensePoseChartResult,
    DensePoseDataRelative,
    DensePoseEmbeddingPredictorOutput,
    DensePoseList,
    Mesh,
    compress_quantized_densepose_chart_result,
    create_mesh,
    decompress_compressed_densepose_chart_result,
    decorate_cse_predictor_output_class_with_confidences,
    decorate_predictor_output_class_with_confidences,
    normalized_coords_transform,
    quantize_densepose_chart_result,
)

sys.path.insert(0, str(Path(__file__).parent))
from densepose_samples import (
    chart_annotation,
    chart_output,
    make_mesh,
    matches,
    mirror_tables,
    random,
    vertex_annotation,
)

CPU = torch.device("cpu")
FLIP = T.TransformList([T.HFlipTransform(100)])


def values(data: DensePoseDataRelative) -> dict[str, torch.Tensor]:
    return {k: v for k, v in vars(data).items() if isinstance(v, torch.Tensor)}


# ------------------------------------------------------------------ outputs
@pytest.mark.parametrize(
    "item",
    [0, -1, slice(1, 3), [2, 0], torch.tensor([True, False, True, False]), torch.tensor([3, 3])],
    ids=str,
)
def test_outputs_are_indexed_field_by_field(item: Any) -> None:
    output = chart_output(0, 4)
    part = output[item]
    for name, maps in vars(output).items():
        want = maps[[item]] if isinstance(item, int) else maps[item]
        assert torch.equal(getattr(part, name), want)
    assert type(part) is DensePoseChartPredictorOutput
    assert len(part) == len(part.u)


def test_an_index_out_of_range_is_empty_as_a_slice_or_an_error_as_a_list() -> None:
    with pytest.raises(IndexError):
        chart_output(0, 2)[[5]]


def test_confidences_are_optional_fields() -> None:
    cls = decorate_predictor_output_class_with_confidences(DensePoseChartPredictorOutput)
    output = cls(**vars(chart_output(0, 3)), sigma_2=random(9, 3, 25, 8, 8))
    assert issubclass(cls, DensePoseChartPredictorOutput)
    assert output.kappa_u is None
    assert output[1].sigma_2.shape == (1, 25, 8, 8)
    assert output[1].kappa_u is None
    assert output.to(CPU).sigma_2 is not None
    assert decorate_predictor_output_class_with_confidences(DensePoseChartPredictorOutput) is cls
    other = decorate_cse_predictor_output_class_with_confidences(DensePoseEmbeddingPredictorOutput)
    assert other.__name__ == "DensePoseEmbeddingPredictorOutputWithConfidences"


# ------------------------------------------------------------------ results
def test_quantized_results_survive_compression() -> None:
    labels = torch.arange(35).reshape(5, 7) % 25
    result = DensePoseChartResult(labels=labels, uv=random(1, 2, 5, 7))
    quantized = quantize_densepose_chart_result(result)
    assert torch.equal(quantized.labels_uv_uint8[0].long(), labels)
    assert torch.equal(quantized.labels_uv_uint8[1:].long(), (result.uv * 255).clamp(0, 255).long())
    compressed = compress_quantized_densepose_chart_result(quantized)
    assert tuple(compressed.shape_chw) == (3, 5, 7)
    again = decompress_compressed_densepose_chart_result(compressed)
    assert torch.equal(again.labels_uv_uint8, quantized.labels_uv_uint8)


# ------------------------------------------------------------------ annotations
def test_two_flips_are_none() -> None:
    data = DensePoseDataRelative(chart_annotation(0))
    before = {k: v.clone() for k, v in values(data).items()}
    data.apply_transform(FLIP, mirror_tables())
    assert not torch.equal(data.i, before["i"])
    data.apply_transform(FLIP, mirror_tables())
    for name, value in values(data).items():
        torch.testing.assert_close(value, before[name], atol=1 / 128, rtol=0, msg=name)
    data.apply_transform(
        T.TransformList([T.HFlipTransform(9), T.NoOpTransform(), T.HFlipTransform(9)]), mirror_tables()
    )
    torch.testing.assert_close(data.x, before["x"], atol=1e-3, rtol=0)


def test_a_flip_swaps_left_and_right() -> None:
    tables = mirror_tables()
    data = DensePoseDataRelative(chart_annotation(1))
    before = {k: v.clone() for k, v in values(data).items()}
    data.apply_transform(FLIP, tables)
    torch.testing.assert_close(data.x, 256 - before["x"])
    assert torch.equal(data.y, before["y"])
    assert data.i.tolist() == [tables.point_label_symmetries[int(i)] for i in before["i"]]
    for row in (0, 100, 255):
        want = [tables.mask_label_symmetries[int(s)] for s in before["segm"][row].flip(0)]
        assert data.segm[row].tolist() == want
    torch.testing.assert_close(data.u, 1 - before["u"], atol=1 / 255, rtol=0)


def test_points_on_the_background_keep_their_coordinates() -> None:
    annotation = chart_annotation(2)
    annotation["dp_I"] = [0] * 12
    data = DensePoseDataRelative(annotation)
    u = data.u.clone()
    data.apply_transform(FLIP, mirror_tables())
    assert torch.equal(data.u, u)
    assert not data.i.any()


@pytest.mark.parametrize("symmetry", [True, False])
def test_vertices_are_mirrored_where_the_mesh_says_how(tmp_path: Path, symmetry: bool) -> None:
    make_mesh(tmp_path, "flip_mesh", symmetry=symmetry)
    data = DensePoseDataRelative(vertex_annotation(3, "flip_mesh", 10))
    before = data.vertex_ids.clone()
    data.apply_transform(FLIP, mirror_tables())
    assert torch.equal(data.vertex_ids, before ^ 1 if symmetry else before)


def test_four_quarter_turns_are_none() -> None:
    data = DensePoseDataRelative(chart_annotation(4))
    before = {k: v.clone() for k, v in values(data).items()}
    data.segm = (torch.arange(256)[:, None] // 64).expand(256, 256).float()
    for _ in range(4):
        data.apply_transform(T.TransformList([T.RotationTransform(256, 256, 90)]), mirror_tables())
    torch.testing.assert_close(data.x, before["x"], atol=1e-2, rtol=0)
    assert (data.segm == (torch.arange(256)[:, None] // 64)).float().mean() > 0.97


def test_what_an_annotation_lacks_is_no_attribute() -> None:
    data = DensePoseDataRelative(chart_annotation(5, segm=False))
    assert not hasattr(data, "segm")
    assert not hasattr(data, "vertex_ids")
    with pytest.raises(ValueError, match="dp_V"):
        DensePoseDataRelative({k: v for k, v in chart_annotation(5).items() if k != "dp_V"})
    with pytest.raises(KeyError, match="no_such_mesh"):
        DensePoseDataRelative(vertex_annotation(5, "no_such_mesh", 10))


def test_lists_keep_annotations_with_their_boxes() -> None:
    data = matches([1, None, 3]).gt_densepose
    part = data[torch.tensor([False, True, True])]
    assert [d is None for d in part] == [True, False]
    assert torch.equal(part.boxes_xyxy_abs, data.boxes_xyxy_abs[1:])
    assert len(data[[]]) == 0
    assert isinstance(data[np.int64(2)], DensePoseDataRelative)
    with pytest.raises(ValueError, match="2 for 3"):
        DensePoseList([None, None], data.boxes_xyxy_abs, (60, 80))
    with pytest.raises(TypeError, match="int"):
        DensePoseList([1, None, None], data.boxes_xyxy_abs, (60, 80))  # type: ignore[list-item]


def test_normalized_coordinates() -> None:
    to_box = normalized_coords_transform(10, 20, 4, 8)
    assert to_box((10, 20)) == (-1, -1)
    assert to_box((14, 28)) == (1, 1)


# ------------------------------------------------------------------ meshes
def test_a_mesh_reads_its_files_once_and_can_be_moved_then(tmp_path: Path) -> None:
    make_mesh(tmp_path, "read_mesh")
    mesh = create_mesh("read_mesh", CPU)
    assert create_mesh("read_mesh", CPU) is mesh
    assert mesh.texcoords is not None
    assert mesh.texcoords.shape == (10, 2)
    assert mesh.vertices is mesh.vertices
    assert mesh.symmetry is not None
    moved = mesh.to(torch.device("meta"))
    assert moved.texcoords is not None
    assert moved.texcoords.device.type == "meta"
    assert mesh.to(CPU) is mesh


def test_a_mesh_registered_anew_is_read_anew(tmp_path: Path) -> None:
    make_mesh(tmp_path, "twice")
    first = create_mesh("twice")
    (tmp_path / "other").mkdir()
    make_mesh(tmp_path / "other", "twice", vertices=12)
    second = create_mesh("twice")
    assert first.vertices is not None
    assert second.vertices is not None
    assert (len(first.vertices), len(second.vertices)) == (10, 12)


def test_a_mesh_without_files_has_what_it_was_given() -> None:
    mesh = Mesh(vertices=random(0, 4, 3))
    assert mesh.faces is None
    assert mesh.get_geodists() is None
    with pytest.raises(ValueError, match="mesh_info"):
        Mesh()
    with pytest.raises(ValueError, match="meta"):
        Mesh(vertices=random(0, 4, 3), faces=torch.zeros(1, 3, device="meta"))


def test_published_meshes_are_known() -> None:
    assert MeshCatalog.get_mesh_id("smpl_27554") == 0
    assert MeshCatalog.get_mesh_name(1) == "chimp_5029"


# ------------------------------------------------------------------ config
def test_bootstrap_entries_become_complete() -> None:
    cfg = get_cfg()
    add_densepose_config(cfg)
    cfg.BOOTSTRAP_DATASETS = [{"DATASET": "x", "IMAGE_LOADER": {"TYPE": "images", "SELECT": {"NUM": 3}}}]
    load_bootstrap_config(cfg)
    (entry,) = cfg.BOOTSTRAP_DATASETS
    assert (entry.DATASET, entry.IMAGE_LOADER.SELECT.NUM, entry.INFERENCE.INPUT_BATCH_SIZE) == ("x", 3, 4)
    cfg.BOOTSTRAP_DATASETS = [{"DATESET": "x"}]
    with pytest.raises(KeyError, match="DATESET"):
        load_bootstrap_config(cfg)
