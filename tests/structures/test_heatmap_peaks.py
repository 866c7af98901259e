"""Peaks of enlarged heatmaps on fixed counts equal those of the enlarged maps themselves."""

import pytest
import torch
from torch.nn import functional as F

from detectron2.structures._heatmap_peaks import find_peaks


@pytest.mark.parametrize("longest", [3, 30, 90, 400])
def test_peaks_are_those_of_the_enlarged_map(longest: int) -> None:
    generator = torch.Generator().manual_seed(longest)
    maps = F.interpolate(torch.randn(6, 3, 14, 14, generator=generator), scale_factor=2, mode="bilinear")
    pixels = torch.randint(1, longest + 1, (6, 2), generator=generator).float()
    x, y, best = find_peaks(maps, pixels)
    for i, (width, height) in enumerate(pixels.int().tolist()):
        full = F.interpolate(maps[i : i + 1], size=(height, width), mode="bicubic", align_corners=False)[0]
        torch.testing.assert_close(best[i], full.flatten(1).amax(1), rtol=1e-5, atol=1e-5)
        # There may be twins: what counts is the value at the place.
        torch.testing.assert_close(full[range(3), y[i].long(), x[i].long()], best[i], rtol=1e-5, atol=1e-5)


def test_regions_beyond_the_pixels_of_a_patch_are_searched_in_steps() -> None:
    maps = torch.zeros(1, 1, 56, 56)
    maps[0, 0, 20, 30] = 5.0
    x, y, best = find_peaks(maps, torch.tensor([[4000.0, 3000.0]]))
    assert abs(float(x) - 30.5 / 56 * 4000) < 5 and abs(float(y) - 20.5 / 56 * 3000) < 5 and best > 4.9


def test_there_may_be_no_regions() -> None:
    x, y, best = find_peaks(torch.zeros(0, 3, 56, 56), torch.zeros(0, 2))
    assert x.shape == y.shape == best.shape == (0, 3)
