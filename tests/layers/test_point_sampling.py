"""Points on maps: against plain loops and interpolation written out."""

import pytest
import torch

from detectron2 import layers as L


def _bilinear(image, x, y):
    """The value of an [H, W] map at pixel coordinates (x, y), zero outside, by the definition."""
    h, w = image.shape
    total = 0.0
    for row in range(h):
        for column in range(w):
            weight_x = max(0.0, 1 - abs(x - (column + 0.5)))
            weight_y = max(0.0, 1 - abs(y - (row + 0.5)))
            total += weight_x * weight_y * image[row, column].item()
    return total


def test_samples_are_bilinear_interpolations():
    torch.manual_seed(0)
    maps, coords = torch.randn(2, 3, 4, 6), torch.rand(2, 5, 2) * 1.4 - 0.2
    got = L.point_sample(maps, coords, align_corners=False)
    assert got.shape == (2, 3, 5)
    for n in range(2):
        for c in range(3):
            for p, (x, y) in enumerate(coords[n].tolist()):
                assert got[n, c, p].item() == pytest.approx(_bilinear(maps[n, c], x * 6, y * 4), abs=1e-5)


def test_samples_of_pixel_centres_are_the_map():
    maps = torch.randn(2, 3, 5, 5)
    centres = L.generate_regular_grid_point_coords(2, 5, "cpu")
    torch.testing.assert_close(L.point_sample(maps, centres, align_corners=False), maps.flatten(2))
    as_grid = L.point_sample(maps, centres.view(2, 5, 5, 2), align_corners=False)
    torch.testing.assert_close(as_grid, maps)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_positions_stay_exact_in_half_precision(dtype):
    ramp = torch.arange(256.0).expand(1, 1, 256, 256).to(dtype)
    coords = L.generate_regular_grid_point_coords(1, 256, "cpu")
    got = L.point_sample(ramp, coords, align_corners=False)
    assert got.dtype == dtype
    torch.testing.assert_close(got, ramp.flatten(2), rtol=0, atol=0.01)


def test_masks_are_sampled_as_float():
    masks = torch.zeros(1, 1, 2, 2, dtype=torch.bool)
    masks[..., 1] = True
    got = L.point_sample(masks, torch.tensor([[[0.25, 0.5], [0.5, 0.5], [0.75, 0.5]]]), align_corners=False)
    assert got.flatten().tolist() == [0.0, 0.5, 1.0]
    assert got.dtype == torch.float32


@pytest.mark.parametrize(("maps", "points"), [(0, 5), (2, 0)])
def test_no_maps_and_no_points(maps, points):
    got = L.point_sample(torch.zeros(maps, 3, 4, 4), torch.zeros(maps, points, 2), align_corners=False)
    assert got.shape == (maps, 3, points)


def test_gradients_reach_the_maps():
    maps = torch.randn(1, 2, 4, 4, requires_grad=True)
    L.point_sample(maps, torch.full((1, 3, 2), 0.5), align_corners=False).sum().backward()
    assert maps.grad is not None
    assert maps.grad.sum().item() == pytest.approx(6)  # weights of each of 2 x 3 samples sum up to 1


def test_regular_grid():
    assert (
        L.generate_regular_grid_point_coords(3, 2, None).tolist()
        == [[[0.25, 0.25], [0.75, 0.25], [0.25, 0.75], [0.75, 0.75]]] * 3
    )
    assert L.generate_regular_grid_point_coords(0, 7, None).shape == (0, 49, 2)


def test_uncertain_points_on_a_grid_are_the_largest_pixels():
    torch.manual_seed(0)
    uncertainty = torch.randn(3, 1, 4, 5)
    indices, coords = L.get_uncertain_point_coords_on_grid(uncertainty, 6)
    for n in range(3):
        values = sorted(uncertainty[n].flatten().tolist(), reverse=True)
        assert uncertainty[n].flatten()[indices[n]].tolist() == values[:6]
    at = L.point_sample(uncertainty, coords, mode="nearest", align_corners=False)
    torch.testing.assert_close(at[:, 0], uncertainty.flatten(1).gather(1, indices))
    assert L.get_uncertain_point_coords_on_grid(uncertainty, 100)[0].shape == (3, 20)
    assert L.get_uncertain_point_coords_on_grid(uncertainty[:0], 6)[1].shape == (0, 6, 2)


def test_random_points_prefer_uncertain_ones():
    torch.manual_seed(0)
    logits = torch.linspace(-3, 3, 64).expand(2, 1, 64, 64)  # certain on both sides, undecided in the middle

    def distance(ratio):
        coords = L.get_uncertain_point_coords_with_randomness(logits, lambda x: -x.abs(), 200, 4, ratio)
        assert coords.shape == (2, 200, 2)
        assert coords.min() >= 0
        assert coords.max() <= 1
        return (coords[..., 0] - 0.5).abs()

    assert distance(1.0).max() < 0.2  # the best fourth
    assert distance(0.0).mean().item() == pytest.approx(0.25, abs=0.05)  # evenly spread
    mixed = distance(0.5)
    assert mixed[:, :100].max() < 0.2
    assert mixed[:, 100:].max() > 0.3


@pytest.mark.parametrize(("oversample", "importance"), [(0.5, 0.5), (3, 1.5), (3, -0.1)])
def test_ratios_out_of_range_are_refused(oversample, importance):
    with pytest.raises(ValueError, match="ratio must be"):
        L.get_uncertain_point_coords_with_randomness(
            torch.zeros(1, 1, 4, 4), lambda x: x, 5, oversample, importance
        )


def test_points_of_boxes_and_images():
    boxes = torch.tensor([[10.0, 20, 30, 60], [0, 0, 1, 1]])
    corners = torch.tensor([[0.0, 0], [1, 1], [0.5, 0.25]]).expand(2, -1, -1)
    placed = L.get_point_coords_wrt_image(boxes, corners)
    assert placed[0].tolist() == [[10, 20], [30, 60], [20, 30]]
    torch.testing.assert_close(L.get_point_coords_wrt_box(boxes, placed), corners)


def test_a_pyramid_is_sampled_level_by_level_in_each_box():
    torch.manual_seed(0)
    strides = (4, 8)
    features = [torch.randn(2, c, 64 // s, 96 // s) for c, s in zip((3, 5), strides)]
    boxes = [torch.tensor([[8.0, 8, 40, 30], [0, 0, 96, 64]]), torch.tensor([[50.0, 10, 90, 60]])]
    points = torch.rand(3, 7, 2)
    got, coords = L.point_sample_pyramid(features, [1 / s for s in strides], boxes, points)
    assert got.shape == (3, 8, 7)
    for r, image in enumerate((0, 0, 1)):
        for p, (x, y) in enumerate(coords[r].tolist()):
            want = [_bilinear(m, x / s, y / s) for f, s in zip(features, strides) for m in f[image]]
            torch.testing.assert_close(got[r, :, p], torch.tensor(want), rtol=1e-4, atol=1e-5)


def test_a_pyramid_without_boxes():
    features = [torch.randn(2, 3, 8, 8)]
    got, coords = L.point_sample_pyramid(features, [0.25], [torch.zeros(0, 4)] * 2, torch.zeros(0, 7, 2))
    assert got.shape == (0, 3, 7)
    assert coords.shape == (0, 7, 2)
