"""Transforms of albumentations (or anything in its style) and torchvision v2 as augmentations.

Those libraries transform an image and its labels in one call. Here a transform is applied to each kind of data
separately, so that the adapters record the random choices of the call on the image, and repeat them::

    from torchvision.transforms import v2
    T.AugmentationList([TorchvisionAugmentation(v2.RandomAffine(10)), T.RandomFlip()])

Both libraries place the centre of a pixel at integer coordinates, this package half a pixel further. The adapters
convert, so that a point stays on its pixel (when scaling by s, to within ``(s - 1) / 2`` pixels, which the libraries
ignore).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from detectron2.utils.env import seeded
from detectron2.utils.errors import BadValue

from .augmentation import Augmentation
from .operations.base import Transform, as_coords
from .operations.resample import from_numpy

__all__ = ["AlbumentationsAugmentation", "TorchvisionAugmentation"]

_HALF = 0.5


class _Foreign(Transform):
    """A transform of another library with fixed random choices."""

    def __init__(self, image: np.ndarray) -> None:
        self._source = image
        self._result = self._run_image(image)
        self._mirrors: bool | None = None

    def _run_image(self, img: np.ndarray) -> np.ndarray:
        raise NotImplementedError

    def _run_labels(self, labels: np.ndarray) -> np.ndarray:
        raise NotImplementedError

    def _run_points(self, points: np.ndarray) -> np.ndarray:
        """Transform (N, 2) coordinates with pixel centres at integers."""
        raise NotImplementedError

    def apply_image(self, img: np.ndarray) -> np.ndarray:
        if img is self._source:  # computed by the constructor
            return self._result
        self._check_size(img)
        return self._run_image(img)

    def apply_segmentation(self, segmentation: np.ndarray) -> np.ndarray:
        self._check_size(segmentation)
        return self._run_labels(segmentation)

    def apply_coords(self, coords: np.ndarray) -> np.ndarray:
        points = as_coords(coords)
        if len(points) == 0:
            return points
        return self._run_points(points - _HALF) + _HALF

    def _check_size(self, img: np.ndarray) -> None:
        if img.shape[:2] != self._source.shape[:2]:
            raise BadValue(
                f"{type(self).__name__} was made for an image of size {self._source.shape[:2]}, got {img.shape[:2]}"
            )

    @property
    def mirrors(self) -> bool:
        """Whether left and right are swapped, so that keypoints such as "left eye" must be swapped as well."""
        if self._mirrors is None:
            height, width = self._source.shape[:2]
            corner = np.asarray([[0.25, 0.25], [0.75, 0.25], [0.25, 0.75]]) * [width, height]
            a, b, c = self.apply_coords(corner)
            self._mirrors = bool((b - a)[0] * (c - a)[1] - (b - a)[1] * (c - a)[0] < 0)
        return self._mirrors


class AlbumentationsAugmentation(Augmentation):
    """An albumentations-style pipeline as an augmentation.

    Args:
        transform: one of

            * a ``ReplayCompose``: any object that is called with ``image=`` (and ``mask=``, ``keypoints=``), whose
              result has the entry ``"replay"``, and that has a method ``replay(saved, **data)``. It must be created
              with ``keypoint_params=KeypointParams(format="xy", remove_invisible=False)``;
            * an albumentations transform or a list of them, from which such a ReplayCompose is built. This needs
              albumentations.

    Boxes and polygons are transformed by their corners.
    """

    def __init__(self, transform: object) -> None:
        self.transform = transform if hasattr(transform, "replay") else _replay_compose(transform)

    def get_transform(self, image: np.ndarray) -> Transform:
        return _AlbumentationsTransform(self.transform, image)


def _replay_compose(transforms: object) -> Any:
    try:
        import albumentations  # type: ignore[import-not-found,unused-ignore]
    except ImportError as error:
        raise ImportError(
            "building a pipeline of albumentations transforms needs albumentations: pip install albumentations; or "
            "give an object with a method replay(saved, **data)"
        ) from error
    steps = list(transforms) if isinstance(transforms, Sequence) else [transforms]
    keypoints = albumentations.KeypointParams(format="xy", remove_invisible=False)
    return albumentations.ReplayCompose(steps, keypoint_params=keypoints)


class _AlbumentationsTransform(_Foreign):
    def __init__(self, pipeline: Any, image: np.ndarray) -> None:
        self._pipeline = pipeline
        self._saved: Any = None
        super().__init__(image)

    def _call(self, **data: Any) -> dict[str, Any]:
        if self._saved is None:
            result = self._pipeline(**data)
            self._saved = result["replay"]
            return result
        return self._pipeline.replay(self._saved, **data)

    def _run_image(self, img: np.ndarray) -> np.ndarray:
        # OpenCV rejects views with negative strides, such as flipped images.
        return self._call(image=np.ascontiguousarray(img), keypoints=[])["image"]

    def _run_labels(self, labels: np.ndarray) -> np.ndarray:
        dummy = np.zeros((*labels.shape[:2], 3), np.uint8)
        return self._call(image=dummy, mask=np.ascontiguousarray(labels), keypoints=[])["mask"]

    def _run_points(self, points: np.ndarray) -> np.ndarray:
        dummy = np.zeros((*self._source.shape[:2], 3), np.uint8)
        moved = self._call(image=dummy, keypoints=points.tolist())["keypoints"]
        if len(moved) != len(points):
            raise BadValue(
                f"the pipeline returned {len(moved)} of {len(points)} keypoints: create it with "
                "KeypointParams(format='xy', remove_invisible=False), and without transforms that drop points (elastic)"
            )
        return np.asarray([row[:2] for row in moved], dtype=np.float64)


class TorchvisionAugmentation(Augmentation):
    """A torchvision v2 transform, or several, as an augmentation.

    The transform is called on the image, on label maps and on points separately, each time from the same random
    state. Its choices may therefore depend on the image size and on chance, but not on pixels or other labels (as in
    ``RandomIoUCrop`` and ``SanitizeBoundingBoxes``).

    Args:
        transform: a v2 transform, or any function of ``tv_tensors``; a sequence of them is applied in order. Give it
            ``fill={tv_tensors.Mask: 255, tv_tensors.Image: 0}`` to mark new border pixels as ignored in label maps.
    """

    def __init__(self, transform: Callable[[Any], Any] | Sequence[Callable[[Any], Any]]) -> None:
        self.transform = list(transform) if isinstance(transform, Sequence) else [transform]

    def get_transform(self, image: np.ndarray) -> Transform:
        return _TorchvisionTransform(self.transform, image, int(np.random.randint(2**31)))


class _TorchvisionTransform(_Foreign):
    def __init__(self, steps: list[Callable[[Any], Any]], image: np.ndarray, seed: int) -> None:
        self._steps, self._seed = steps, seed
        super().__init__(image)

    def _call(self, data: Any) -> Any:
        with seeded(self._seed):
            for step in self._steps:
                data = step(data)
        return data

    def _run_image(self, img: np.ndarray) -> np.ndarray:
        from torchvision import tv_tensors

        planes = from_numpy(img if img.ndim == 3 else img[:, :, None]).permute(2, 0, 1)
        out = self._call(tv_tensors.Image(planes)).permute(1, 2, 0)
        pixels = out.as_subclass(torch.Tensor).numpy()
        return pixels if img.ndim == 3 else pixels[:, :, 0]

    def _run_labels(self, labels: np.ndarray) -> np.ndarray:
        from torchvision import tv_tensors

        out = self._call(tv_tensors.Mask(from_numpy(labels)))
        return out.as_subclass(torch.Tensor).numpy()

    def _run_points(self, points: np.ndarray) -> np.ndarray:
        from torchvision import tv_tensors

        keypoints = tv_tensors.KeyPoints(torch.from_numpy(points), canvas_size=self._source.shape[:2])
        out = self._call(keypoints)
        return out.as_subclass(torch.Tensor).numpy().astype(np.float64)
