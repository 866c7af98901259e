"""DensePose's converters against slow references."""

from __future__ import annotations

import sys
from dataclasses import fields
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from detectron2.projects.densepose.converters import (
    HFlipConverter,
    ToChartResultConverter,
    ToChartResultConverterWithConfidences,
    ToMaskConverter,
)
from detectron2.projects.densepose.structures import (
    DensePoseChartPredictorOutput,
    decorate_predictor_output_class_with_confidences,
)
from detectron2.structures import Boxes

sys.path.insert(0, str(Path(__file__).parent))
from densepose_samples import chart_output, embedding_output, make_mesh, mirror_tables, random


def test_chart_results_pixel_by_pixel() -> None:
    output = chart_output(0, 1)
    result = ToChartResultConverter.convert(output, Boxes(torch.tensor([[3.4, 2.2, 15.1, 13.9]])))
    assert result.labels.shape == (11, 11)
    big = {
        f.name: F.interpolate(getattr(output, f.name), (11, 11), mode="bilinear")[0] for f in fields(output)
    }
    for y in range(11):
        for x in range(11):
            label = int(big["fine_segm"][:, y, x].argmax()) if big["coarse_segm"][:, y, x].argmax() > 0 else 0
            assert result.labels[y, x] == label
            for k, name in enumerate("uv"):
                want = big[name][label, y, x] if label else torch.tensor(0.0)
                torch.testing.assert_close(result.uv[k, y, x], want)


def test_outputs_without_confidences_have_none() -> None:
    result = ToChartResultConverterWithConfidences.convert(
        chart_output(0, 1), Boxes(torch.tensor([[0.0, 0, 5, 5]]))
    )
    assert result.sigma_1 is None
    assert result.labels.shape == (5, 5)


def test_confidences_follow_the_chart() -> None:
    cls = decorate_predictor_output_class_with_confidences(DensePoseChartPredictorOutput)
    output = cls(
        **vars(chart_output(0, 1)),
        sigma_2=torch.arange(25.0)[None, :, None, None].expand(1, 25, 8, 8),
        coarse_segm_confidence=torch.full((1, 1, 8, 8), 0.5),
    )
    result = ToChartResultConverterWithConfidences.convert(output, Boxes(torch.tensor([[0.0, 0, 9, 7]])))
    torch.testing.assert_close(result.sigma_2, result.labels.float(), check_dtype=False)
    assert result.coarse_segm_confidence is not None
    torch.testing.assert_close(result.coarse_segm_confidence, torch.full((7, 9), 0.5))


@pytest.mark.parametrize("kind", ["chart", "embedding"])
def test_masks_are_cut_at_the_image(kind: str) -> None:
    output = chart_output(0, 3) if kind == "chart" else embedding_output(0, 3)
    output.coarse_segm[:, 1] = output.coarse_segm[:, 0] + 1  # all of the box is body
    if kind == "chart":
        output.fine_segm[:, 3] = 100.0
    boxes = Boxes(torch.tensor([[-4.0, -3, 6, 5], [15, 8, 30, 40], [2, 2, 2.5, 2.5]]))
    masks = ToMaskConverter.convert(output, boxes, (20, 25)).tensor
    want = torch.zeros(3, 20, 25, dtype=torch.bool)
    want[0, :5, :6] = True
    want[1, 8:, 15:] = True  # the third box has no whole pixel
    assert torch.equal(masks, want)
    assert ToMaskConverter.convert(output[:0], boxes[:0], (20, 25)).tensor.shape == (0, 20, 25)


def test_mirroring_charts_twice_gives_them_back_and_leaves_the_input_alone() -> None:
    output = chart_output(0, 2)
    before = {k: v.clone() for k, v in vars(output).items()}
    once = HFlipConverter.convert(output, mirror_tables())
    assert all(torch.equal(v, before[k]) for k, v in vars(output).items())
    assert not torch.equal(once.u, output.u)
    twice = HFlipConverter.convert(once, mirror_tables())
    for name, maps in vars(twice).items():
        torch.testing.assert_close(maps, before[name], atol=1 / 100, rtol=0, msg=name)


def test_mirroring_embeddings_swaps_opposite_vertices(tmp_path: Path) -> None:
    make_mesh(tmp_path, "hflip_mesh")
    vertices = F.normalize(random(3, 10, 6), dim=1)
    lengths = random(4, 2, 1, 8, 8).abs() + 0.5
    places = torch.randint(10, (2, 8, 8), generator=torch.Generator().manual_seed(5))
    output = embedding_output(0)
    output.embedding = vertices[places].movedim(3, 1) * lengths
    found = HFlipConverter.convert(output, mirror_tables(), lambda name: vertices, ["hflip_mesh"] * 2)
    want = vertices[places.flip(2) ^ 1].movedim(3, 1) * lengths.flip(3)
    torch.testing.assert_close(found.embedding, want)
    assert torch.equal(found.coarse_segm, output.coarse_segm.flip(3))
    with pytest.raises(ValueError, match="1 for 2"):
        HFlipConverter.convert(output, mirror_tables(), lambda name: vertices, ["hflip_mesh"])


def test_embeddings_of_meshes_without_symmetry_are_only_reversed(tmp_path: Path) -> None:
    make_mesh(tmp_path, "lopsided", symmetry=False)
    output = embedding_output(0)
    found = HFlipConverter.convert(output, mirror_tables(), lambda name: random(3, 10, 6), ["lopsided"] * 2)
    assert torch.equal(found.embedding, output.embedding.flip(3))


def test_unknown_types_are_refused_with_what_is_known() -> None:
    with pytest.raises(KeyError, match="DensePoseChartPredictorOutput"):
        ToMaskConverter.convert(3, Boxes(torch.zeros(1, 4)), (5, 5))
    with pytest.raises(ValueError, match="2 instances"):
        ToChartResultConverter.convert(chart_output(0, 2), Boxes(torch.zeros(2, 4)))
