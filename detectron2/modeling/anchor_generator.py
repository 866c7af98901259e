"""Reference boxes ("anchors") tiled over the cells of feature maps."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec, move_device_like
from detectron2.structures import Boxes, RotatedBoxes
from detectron2.utils.errors import BadValue
from detectron2.utils.registry import Registry
from detectron2.utils.tracing import is_recording

__all__ = [
    "ANCHOR_GENERATOR_REGISTRY",
    "AnchorGenerator",
    "BufferList",
    "DefaultAnchorGenerator",
    "RotatedAnchorGenerator",
    "build_anchor_generator",
    "move_device_like",
]

ANCHOR_GENERATOR_REGISTRY = Registry("ANCHOR_GENERATOR")
ANCHOR_GENERATOR_REGISTRY.__doc__ = """
Anchor generators. An entry is called as ``entry(cfg, input_shape)``, where ``input_shape`` is a list of ShapeSpec,
one for each feature map.
"""

# How many sets of anchors to cache: sizes repeat during training (aspect-ratio buckets) and are constant in a video.
_CACHE_SIZE = 16


class AnchorGenerator(Protocol):
    """A module that tiles anchors over feature maps.

    Attributes:
        box_dim: numbers per anchor, 4 or (rotated) 5.
        num_anchors: anchors per cell, for each feature map.
    """

    box_dim: int

    @property
    def num_anchors(self) -> list[int]: ...

    def __call__(self, features: list[Tensor], /) -> list[Boxes]:
        """Return the anchors of each feature map [N, C, H, W]."""


class BufferList(nn.Module):
    """A list of buffers that move with the module and stay out of its state dict."""

    def __init__(self, buffers: Sequence[Tensor]) -> None:
        super().__init__()
        for i, buffer in enumerate(buffers):
            self.register_buffer(str(i), buffer, persistent=False)

    def __len__(self) -> int:
        return len(self._buffers)

    def __iter__(self) -> Iterator[Tensor]:
        return iter(self._buffers.values())  # type: ignore[arg-type]


def _per_level(values: Sequence[Any], num_levels: int, name: str) -> list[Sequence[float]]:
    """Return a list of numbers for each level, given one list for all levels or a list of lists."""
    if not isinstance(values, Sequence) or isinstance(values, str) or not len(values):
        raise BadValue(f"{name} must be a non-empty list, got {values!r}")
    if not isinstance(values[0], Sequence):
        return [values] * num_levels
    if len(values) == 1:
        return [values[0]] * num_levels
    if len(values) != num_levels:
        raise BadValue(
            f"{name} must have one list or one for each of {num_levels} feature maps, got {len(values)}"
        )
    return list(values)


def _plain(values: object) -> Any:
    """Convert nested sequences of any type (also OmegaConf's) to lists."""
    if hasattr(values, "__iter__") and not isinstance(values, str):
        return [_plain(v) for v in values]
    return values


def _grid_centers(height: int, width: int, stride: int, offset: float, like: Tensor) -> tuple[Tensor, Tensor]:
    """Compute x and y of every cell of a map in row-major order, two vectors [height * width]."""
    # Division, because repeating and reshaping by symbolic sizes would add constraints on them to an exported graph.
    cell = torch.arange(height * width, device=like.device)
    row = torch.div(cell, width, rounding_mode="floor")
    column = cell - row * width  # ONNX has no remainder by a size
    return (column.to(like.dtype) + offset) * stride, (row.to(like.dtype) + offset) * stride


class _TiledAnchors(nn.Module):
    """Base of both generators: places a fixed set of boxes at each cell of each map."""

    box_dim: int

    def _set_up(self, strides: Sequence[int], offset: float, cells: list[Tensor]) -> None:
        if not 0.0 <= offset < 1.0:
            raise BadValue(f"offset must be a fraction of the stride in [0, 1), got {offset}")
        self.strides = list(strides)
        self.num_features = len(self.strides)
        self.offset = offset
        self.cell_anchors = BufferList(cells)
        self._cache: dict[Any, list[Tensor]] = {}

    @property
    def num_cell_anchors(self) -> list[int]:
        """The same as :attr:`num_anchors`."""
        return self.num_anchors

    @property
    def num_anchors(self) -> list[int]:
        """Number of anchors per cell, for each feature map."""
        return [len(cell) for cell in self.cell_anchors]

    def _grid_anchors(self, grid_sizes: Sequence[Sequence[int]]) -> list[Tensor]:
        """Compute anchors [height * width * A, box_dim] for each map size (height, width)."""
        tiles = []
        for (height, width), stride, cell in zip(grid_sizes, self.strides, self.cell_anchors):
            x, y = _grid_centers(height, width, stride, self.offset, cell)
            zero = torch.zeros_like(x)
            shift = (x, y, x, y) if self.box_dim == 4 else (x, y, zero, zero, zero)
            tiled = torch.stack(shift, dim=1)[:, None] + cell[None]  # [H * W, A, box_dim]
            tiles.append(tiled.reshape(-1, self.box_dim))
        return tiles

    def _tile(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Compute anchors for feature maps, or take them from the cache of recent sizes."""
        if len(features) != self.num_features:
            raise BadValue(
                f"expected {self.num_features} feature maps, one for each stride, got {len(features)}"
            )
        sizes = [f.shape[-2:] for f in features]
        if is_recording():  # sizes may be symbolic, and a graph has no use for a cache
            return self._grid_anchors(sizes)
        first = next(iter(self.cell_anchors))
        key = (tuple(map(tuple, sizes)), first.device, first.dtype, torch.is_inference_mode_enabled())
        cached = self._cache.pop(key, None)
        tiles = self._grid_anchors(sizes) if cached is None else cached
        self._cache[key] = tiles
        while len(self._cache) > _CACHE_SIZE:
            del self._cache[next(iter(self._cache))]
        return tiles

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_cache": {}}


@ANCHOR_GENERATOR_REGISTRY.register()
class DefaultAnchorGenerator(_TiledAnchors):
    """Axis-aligned anchors of every size and aspect ratio at each cell.

    Faster R-CNN (Ren et al. 2015, https://arxiv.org/abs/1506.01497), section 3.1.1.

    Args:
        sizes: square roots of anchor areas in pixels: a list for each feature map, or one list for all.
        aspect_ratios: height / width, in the same two forms. Each size is combined with each ratio.
        strides: size of a cell in image pixels, one number for each feature map.
        offset: position of the anchor center in its cell, as a fraction of the stride in [0, 1): 0 = top left corner,
            0.5 = center.
    """

    box_dim = 4

    @configurable
    def __init__(
        self,
        *,
        sizes: Sequence[Any],
        aspect_ratios: Sequence[Any],
        strides: Sequence[int],
        offset: float = 0.5,
    ) -> None:
        super().__init__()
        size_lists = _per_level(_plain(sizes), len(strides), "sizes")
        ratio_lists = _per_level(_plain(aspect_ratios), len(strides), "aspect_ratios")
        cells = [self.generate_cell_anchors(s, r).float() for s, r in zip(size_lists, ratio_lists)]
        self._set_up(strides, offset, cells)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: list[ShapeSpec]) -> dict[str, Any]:
        """Read the arguments from ``MODEL.ANCHOR_GENERATOR`` and the strides of the feature maps."""
        node = cfg.MODEL.ANCHOR_GENERATOR
        return {
            "sizes": node.SIZES,
            "aspect_ratios": node.ASPECT_RATIOS,
            "strides": [s.stride for s in input_shape],
            "offset": node.OFFSET,
        }

    def generate_cell_anchors(
        self, sizes: Sequence[float] = (32, 64, 128, 256, 512), aspect_ratios: Sequence[float] = (0.5, 1, 2)
    ) -> Tensor:
        """Compute anchors [len(sizes) * len(aspect_ratios), 4] XYXY around the origin; ratios vary fastest."""
        halves = [
            (0.5 * math.sqrt(size * size / ratio), 0.5 * math.sqrt(size * size / ratio) * ratio)
            for size in sizes
            for ratio in aspect_ratios
        ]
        return torch.tensor([(-w, -h, w, h) for w, h in halves], dtype=torch.float32).reshape(-1, 4)

    def forward(self, features: Sequence[Tensor]) -> list[Boxes]:
        """Compute anchors for feature maps [N, C, H, W], one ``Boxes`` [H * W * A] for each map.

        Anchors are ordered by row, column, then anchor of the cell. Do not modify the boxes in place: calls share them.
        """
        return [Boxes(tile) for tile in self._tile(features)]


@ANCHOR_GENERATOR_REGISTRY.register()
class RotatedAnchorGenerator(_TiledAnchors):
    """Rotated anchors of every size, aspect ratio and angle at each cell.

    RRPN (Ma et al. 2018, https://arxiv.org/abs/1703.01086).

    Args:
        sizes, aspect_ratios, strides, offset: as for :class:`DefaultAnchorGenerator`.
        angles: degrees, counter-clockwise: a list for each feature map, or one list for all.
    """

    box_dim = 5

    @configurable
    def __init__(
        self,
        *,
        sizes: Sequence[Any],
        aspect_ratios: Sequence[Any],
        strides: Sequence[int],
        angles: Sequence[Any],
        offset: float = 0.5,
    ) -> None:
        super().__init__()
        size_lists = _per_level(_plain(sizes), len(strides), "sizes")
        ratio_lists = _per_level(_plain(aspect_ratios), len(strides), "aspect_ratios")
        angle_lists = _per_level(_plain(angles), len(strides), "angles")
        cells = [
            self.generate_cell_anchors(s, r, a).float()
            for s, r, a in zip(size_lists, ratio_lists, angle_lists)
        ]
        self._set_up(strides, offset, cells)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: list[ShapeSpec]) -> dict[str, Any]:
        """Read the arguments from ``MODEL.ANCHOR_GENERATOR`` and the strides of the feature maps."""
        args = DefaultAnchorGenerator.from_config(cfg, input_shape)
        return {**args, "angles": cfg.MODEL.ANCHOR_GENERATOR.ANGLES}

    def generate_cell_anchors(
        self,
        sizes: Sequence[float] = (32, 64, 128, 256, 512),
        aspect_ratios: Sequence[float] = (0.5, 1, 2),
        angles: Sequence[float] = (-90, -60, -30, 0, 30, 60, 90),
    ) -> Tensor:
        """Compute anchors [sizes * ratios * angles, 5] (cx, cy, w, h, angle) around the origin; angles vary fastest."""
        widths = [(math.sqrt(size * size / ratio), ratio) for size in sizes for ratio in aspect_ratios]
        rows = [(0.0, 0.0, w, w * ratio, angle) for w, ratio in widths for angle in angles]
        return torch.tensor(rows, dtype=torch.float32).reshape(-1, 5)

    def forward(self, features: Sequence[Tensor]) -> list[RotatedBoxes]:
        """Compute anchors for feature maps [N, C, H, W], one ``RotatedBoxes`` [H * W * A] for each map."""
        return [RotatedBoxes(tile) for tile in self._tile(features)]


def build_anchor_generator(cfg: CfgNode, input_shape: list[ShapeSpec]) -> AnchorGenerator:
    """Build the registered generator that ``MODEL.ANCHOR_GENERATOR.NAME`` names, for these feature maps."""
    return ANCHOR_GENERATOR_REGISTRY.get(cfg.MODEL.ANCHOR_GENERATOR.NAME)(cfg, input_shape)
