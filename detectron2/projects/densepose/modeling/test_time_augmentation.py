"""Test-time augmentation of DensePose models: sizes, flips and rotations."""

import copy
from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from detectron2.config import CfgNode
from detectron2.data.transforms import (
    HFlipTransform,
    RandomRotation,
    RotationTransform,
    TransformList,
    apply_augmentations,
)
from detectron2.modeling.postprocessing import detector_postprocess
from detectron2.modeling.test_time_augmentation import DatasetMapperTTA, GeneralizedRCNNWithTTA
from detectron2.structures import Instances

from ..converters import HFlipConverter
from ..data.utils import get_class_to_mesh_name_mapping
from ..structures import DensePoseEmbeddingPredictorOutput, DensePoseTransformData

__all__ = ["DensePoseDatasetMapperTTA", "DensePoseGeneralizedRCNNWithTTA", "rotate_box_inverse"]

# Flips keep them with the chart for which they were predicted, so versions cannot be averaged.
_NOT_AVERAGED = ("sigma_1", "sigma_2", "kappa_u", "kappa_v")


class DensePoseDatasetMapperTTA(DatasetMapperTTA):
    """Create versions of an image: those of the base class, and one per angle of ``TEST.AUG.ROTATION_ANGLES``.

    Args:
        cfg: the whole config.
    """

    def __init__(self, cfg: CfgNode) -> None:
        super().__init__(cfg)
        self.angles: Sequence[float] = cfg.TEST.AUG.ROTATION_ANGLES

    def __call__(self, dataset_dict: dict[str, Any]) -> list[dict[str, Any]]:
        """Create versions of one model input.

        Args:
            dataset_dict: ``image`` [C, H, W], and ``height`` and ``width`` of the original.

        Returns:
            A copy of the input for each version, with its own ``image`` and, under ``transforms``, the
            ``TransformList`` from the original to it. Rotated versions are enlarged so that the corners
            of the input fit.
        """
        versions = super().__call__(dataset_dict)
        image = dataset_dict["image"].permute(1, 2, 0).cpu().numpy()
        rest = {k: v for k, v in dataset_dict.items() if k != "image"}
        before = versions[0]["transforms"].transforms[:1] if versions else []  # from original to input
        for angle in self.angles:
            changed, transforms = apply_augmentations([RandomRotation([angle, angle])], np.copy(image))
            tensor = torch.from_numpy(np.ascontiguousarray(changed.transpose(2, 0, 1)))
            versions.append(
                {
                    **copy.deepcopy(rest),
                    "image": tensor,
                    "transforms": TransformList(before) + transforms,
                }
            )
        return versions


class DensePoseGeneralizedRCNNWithTTA(GeneralizedRCNNWithTTA):
    """A DensePose R-CNN that runs on several versions of each image. Evaluation only.

    Boxes come from the versions without rotation, because rotated boxes are too large; maps are averaged over all
    versions.

    Args:
        cfg: config of the model.
        model: the model.
        transform_data: symmetries of charts and labels; may be None for models of surface embeddings.
        tta_mapper: creates the versions; None = without rotations.
        batch_size: number of versions per batch.
    """

    def __init__(
        self,
        cfg: CfgNode,
        model: Any,
        transform_data: DensePoseTransformData | None,
        tta_mapper: DatasetMapperTTA | None = None,
        batch_size: int = 1,
    ) -> None:
        super().__init__(cfg, model, tta_mapper, batch_size)
        self._transform_data: Any = transform_data and transform_data.to(self.model.device)

    def _inference_one_image(self, input: dict[str, Any]) -> dict[str, Any]:
        """Return the results for one input with ``image``, ``height`` and ``width``."""
        size = (int(input["height"]), int(input["width"]))
        versions, transforms = self._get_augmented_inputs({**input, "image": input["image"].to(torch.uint8)})
        with self._turn_off_roi_heads(["mask_on", "keypoint_on", "densepose_on"]):
            boxes, scores, classes = self._get_augmented_boxes(versions, transforms)
        merged = self._merge_detections(boxes, scores, classes, size)
        heads: Any = self.model.roi_heads
        if not (heads.mask_on or heads.densepose_on):
            return {"instances": merged}
        with self._turn_off_roi_heads(["keypoint_on"]):
            again = self._rescale_detected_boxes(versions, merged, transforms)
            outputs = self._batch_inference(versions, again)
        if heads.mask_on:
            upright = [i for i, t in enumerate(transforms) if not _is_rotated(t)]
            merged.pred_masks = self._reduce_pred_masks(
                [outputs[i] for i in upright], [transforms[i] for i in upright]
            )
        if heads.densepose_on and len(merged):
            merged.pred_densepose = self._reduce_pred_densepose(outputs, transforms, merged)
        return {"instances": detector_postprocess(merged, *size)}

    def _get_augmented_boxes(
        self, augmented_inputs: list[dict[str, Any]], tfms: list[TransformList]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return boxes, scores and classes of all versions without rotation."""
        upright = [i for i, t in enumerate(tfms) if not _is_rotated(t)]
        return super()._get_augmented_boxes(
            [augmented_inputs[i] for i in upright], [tfms[i] for i in upright]
        )

    def _reduce_pred_densepose(
        self, outputs: list[Instances], tfms: list[TransformList], merged: Instances
    ) -> Any:
        """Return the mean of the maps of all versions, transformed back.

        Args:
            outputs: ``pred_densepose`` of the N merged detections in each version.
            tfms: transforms from the original to each version.
            merged: the detections, in coordinates of the original.
        """
        turned = [self._turn_back(out.pred_densepose, t, merged) for out, t in zip(outputs, tfms)]
        means = {}
        for f in fields(turned[0]):
            if f.name in _NOT_AVERAGED or getattr(turned[0], f.name) is None:
                continue
            means[f.name] = torch.stack([getattr(output, f.name) for output in turned]).mean(dim=0)
        return replace(turned[0], **means)

    def _turn_back(self, output: object, transforms: TransformList, merged: Instances) -> Any:
        """Convert maps over boxes of a version to maps over the boxes of the original."""
        boxes = merged.pred_boxes.tensor.detach().cpu().numpy()
        steps = []
        for transform in transforms.transforms:
            moved = transform.apply_box(boxes)
            steps.append((transform, boxes, moved))
            boxes = moved
        for transform, before, after in reversed(steps):
            if isinstance(transform, HFlipTransform):
                meshes = self._embedder_and_meshes(output, merged)
                output = HFlipConverter.convert(output, self._transform_data, *meshes)
            elif isinstance(transform, RotationTransform):
                output = _rotate_back(output, transform, before, after)
        return output

    def _embedder_and_meshes(self, output: object, merged: Instances) -> tuple[Any, ...]:
        """Return the further arguments of flips; none for charts."""
        if not isinstance(output, DensePoseEmbeddingPredictorOutput):
            return ()
        embedder: Any = self.model.roi_heads.embedder
        names = get_class_to_mesh_name_mapping(self.cfg)
        if not names and len(embedder.mesh_names) == 1:
            (only,) = embedder.mesh_names
            return embedder, [only] * len(merged)
        classes = merged.pred_classes.tolist()
        unknown = sorted(set(classes) - names.keys())
        if unknown:
            raise ValueError(
                f"flipped versions need the mesh of each class, but DATASETS.CLASS_TO_MESH_NAME_MAPPING has none for "
                f"{unknown}: {names}. Add them, or set TEST.AUG.FLIP to False."
            )
        return embedder, [names[c] for c in classes]


def _is_rotated(transforms: TransformList) -> bool:
    return any(isinstance(t, RotationTransform) for t in transforms.transforms)


def _rotate_back(output: Any, rotation: RotationTransform, before: np.ndarray, after: np.ndarray) -> Any:
    """Convert maps [N, C, S, S] over boxes ``after`` a rotation to maps over the boxes ``before`` it, both [N, 4] XYXY."""
    size = output.coarse_segm.shape[-1]
    cells = (np.arange(size) + 0.5) / size  # centres, from 0 to 1
    extent = np.maximum(after[:, 2:] - after[:, :2], 1e-6)[:, None, None]
    steps = np.stack(np.meshgrid(cells, cells), axis=-1)  # [S, S, 2] of (x, y)
    points = before[:, None, None, :2] + steps * (before[:, 2:] - before[:, :2])[:, None, None]
    turned = rotation.apply_coords(points.reshape(-1, 2)).reshape(points.shape)
    relative = 2 * (turned - after[:, None, None, :2]) / extent - 1
    grid = torch.from_numpy(relative).to(output.coarse_segm)
    values = {f.name: getattr(output, f.name) for f in fields(output)}
    moved = {
        name: F.grid_sample(maps, grid, padding_mode="border", align_corners=False)
        for name, maps in values.items()
        if maps is not None
    }
    return replace(output, **moved)


def rotate_box_inverse(rot_tfm: RotationTransform, rotated_box: np.ndarray) -> np.ndarray:
    """Recover boxes that were enlarged by a rotation.

    A rotated box is the smallest upright box around the corners of the original, so rotating it back would enlarge it
    again.

    Args:
        rot_tfm: the rotation, not by 45 degrees.
        rotated_box: [N, 4] XYXY.

    Returns:
        [N, 4] XYXY, before the rotation.

    Raises:
        ValueError: the rotation is by 45 degrees, which maps all boxes with the same centre and sum of sides to
            the same box.
    """
    cos, sin = rot_tfm.abs_cos, rot_tfm.abs_sin
    determinant = cos**2 - sin**2
    if abs(determinant) < 1e-6:
        raise ValueError(f"a rotation of boxes by {rot_tfm.angle} degrees cannot be undone")
    width, height = (rotated_box[:, 2:] - rotated_box[:, :2]).T
    back = rot_tfm.inverse().apply_box(rotated_box)
    centre = (back[:, :2] + back[:, 2:]) / 2
    # A rotated box has the sides (w cos + h sin) and (h cos + w sin); solved for w and h.
    half = np.stack([width * cos - height * sin, height * cos - width * sin], axis=1) / determinant / 2
    return np.concatenate([centre - half, centre + half], axis=1)
