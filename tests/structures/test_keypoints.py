"""Keypoints to heatmaps and back."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from detectron2.structures import Keypoints, _heatmaps, heatmaps_to_keypoints


def slow_decode(maps: torch.Tensor, rois: torch.Tensor) -> torch.Tensor:
    out = torch.zeros(*maps.shape[:2], 4)
    for r, (x0, y0, x1, y1) in enumerate(rois.tolist()):
        w, h = max(x1 - x0, 1.0), max(y1 - y0, 1.0)
        columns, rows = int(np.ceil(np.float32(w))), int(np.ceil(np.float32(h)))
        full = F.interpolate(maps[r][None], size=(rows, columns), mode="bicubic", align_corners=False)[0]
        for k in range(maps.shape[1]):
            at = int(full[k].argmax())
            y, x = divmod(at, columns)
            logit = full[k, y, x]
            out[r, k, 0] = (x + 0.5) * w / columns + x0
            out[r, k, 1] = (y + 0.5) * h / rows + y0
            out[r, k, 2] = logit
            out[r, k, 3] = logit.exp() / maps[r, k].exp().sum()
    return out


BOXES = torch.tensor(
    [[3, 4, 40.5, 60.2], [10, 10, 10.3, 10.9], [0, 0, 100, 9], [5, 5, 61, 61], [30, 20, 33.2, 90.0]]
)


def test_decode_against_loops() -> None:
    torch.manual_seed(0)
    maps = torch.randn(5, 4, 14, 14) * 2
    torch.testing.assert_close(
        heatmaps_to_keypoints(maps, BOXES), slow_decode(maps, BOXES), atol=1e-3, rtol=1e-4
    )


def test_decode_in_small_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(1)
    maps = torch.randn(5, 3, 8, 8)
    want = heatmaps_to_keypoints(maps, BOXES)
    monkeypatch.setattr(_heatmaps, "_CELLS_AT_ONCE", 1)
    torch.testing.assert_close(heatmaps_to_keypoints(maps, BOXES), want)


def test_decode_nothing() -> None:
    assert heatmaps_to_keypoints(torch.zeros(0, 17, 56, 56), torch.zeros(0, 4)).shape == (0, 17, 4)


def test_there_and_back() -> None:
    """A peak at a keypoint's cell leads back to within one cell of the keypoint."""
    torch.manual_seed(2)
    boxes = torch.tensor([[0, 0, 112, 56.0], [20, 30, 48, 58]])
    points = torch.rand(2, 6, 2) * (boxes[:, None, 2:] - boxes[:, None, :2]) + boxes[:, None, :2]
    keypoints = Keypoints(torch.cat([points, torch.full((2, 6, 1), 2.0)], 2))
    at, valid = keypoints.to_heatmap(boxes, 28)
    assert valid.all()
    maps = F.one_hot(at, 28 * 28).reshape(2, 6, 28, 28).float() * 20
    cell = (boxes[:, 2:] - boxes[:, :2]) / 28
    miss = (heatmaps_to_keypoints(maps, boxes)[..., :2] - points).abs()
    assert (miss <= cell[:, None]).all()


def test_borders_and_visibility() -> None:
    box = torch.tensor([[10, 20, 30, 60.0]])
    points = torch.tensor(
        [[[10, 20, 2], [30, 60, 1], [30, 20, 2], [30.1, 30, 2], [9.9, 30, 2], [15, 30, 0]]]
    ).float()
    at, valid = Keypoints(points).to_heatmap(box, 4)
    assert valid.tolist() == [[1, 1, 1, 0, 0, 0]]
    assert at.tolist() == [[0, 15, 3, 0, 0, 0]]
    at, valid = Keypoints(points[:0]).to_heatmap(box[:0], 4)
    assert at.shape == valid.shape == (0, 6)
    assert at.dtype == torch.int64


@pytest.mark.parametrize(
    "item", [1, -2, np.int64(0), torch.tensor(2), slice(0, 2), torch.tensor([True, False, True])]
)
def test_indexing(item) -> None:
    keypoints = Keypoints(np.arange(36).reshape(3, 4, 3))
    want = torch.arange(3)[item].reshape(-1)
    assert torch.equal(keypoints[item].tensor, keypoints.tensor[want])
    assert len(Keypoints.cat([keypoints, keypoints[item]])) == 3 + len(want)


def test_errors() -> None:
    with pytest.raises(ValueError, match=r"\[N, K, 3\]"):
        Keypoints(np.zeros((3, 5)))
    with pytest.raises(ValueError, match="rois"):
        heatmaps_to_keypoints(torch.zeros(1, 2, 3, 3), torch.zeros(1, 5))
