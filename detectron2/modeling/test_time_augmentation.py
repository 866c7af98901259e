"""Test-time augmentation: predict on several versions of an image and merge the results."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from detectron2.config import CfgNode, configurable, get_cfg
from detectron2.config.types import Config
from detectron2.data import MetadataCatalog
from detectron2.data.detection_utils import create_keypoint_hflip_indices, read_image
from detectron2.data.transforms import (
    HFlipTransform,
    NoOpTransform,
    RandomFlip,
    ResizeShortestEdge,
    ResizeTransform,
    Transform,
    TransformList,
    apply_augmentations,
)
from detectron2.structures import Boxes, Instances
from detectron2.utils.errors import BadType, BadValue
from detectron2.utils.reexports import passed_on
from detectron2.utils.unwrap import unwrap_model

from .meta_arch import GeneralizedRCNN, PanopticFPN, SemanticSegmentor
from .postprocessing import detector_postprocess
from .roi_heads.fast_rcnn import fast_rcnn_inference
from .roi_heads.keypoint_head import keypoint_rcnn_inference

__all__ = ["DatasetMapperTTA", "GeneralizedRCNNWithTTA", "SemanticSegmentorWithTTA"]

__getattr__ = passed_on(__name__)

# The model has already applied its score threshold; this one only drops the zeros of the score table.
_ANY_SCORE = 1e-8


def _versions_of(cfg: Config) -> CfgNode:
    """Return the config to read ``TEST.AUG`` from: the default one for a Python config, which has no such key."""
    return cast(CfgNode, cfg) if "TEST" in cfg else get_cfg()


def _dataset_names(cfg: Config) -> list[str]:
    """Return the test datasets of a config of either kind, or its training datasets if it has none."""
    if "DATASETS" in cfg:
        return list(cfg.DATASETS.TEST or cfg.DATASETS.TRAIN)
    loaders = cfg.get("dataloader", {})
    for part in ("test", "train"):
        names = loaders.get(part, {}).get("dataset", {}).get("names")
        if names:
            return [names] if isinstance(names, str) else list(names)
    return []


class DatasetMapperTTA:
    """Creates versions of an image: several sizes, each optionally also flipped horizontally.

    Args:
        min_sizes: lengths of the shorter side, in pixels.
        max_size: upper bound on the longer side, in pixels.
        flip: whether to add a flipped version of each size.
    """

    @configurable
    def __init__(self, min_sizes: Sequence[int], max_size: int, flip: bool) -> None:
        self.min_sizes = min_sizes
        self.max_size = max_size
        self.flip = flip

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Read the arguments from ``TEST.AUG``."""
        return {
            "min_sizes": cfg.TEST.AUG.MIN_SIZES,
            "max_size": cfg.TEST.AUG.MAX_SIZE,
            "flip": cfg.TEST.AUG.FLIP,
        }

    def __call__(self, dataset_dict: dict[str, Any]) -> list[dict[str, Any]]:
        """Create the versions of one model input.

        Args:
            dataset_dict: input with ``image`` [C, H, W] and, if the original has another size, ``height`` and
                ``width``.

        Returns:
            A copy of the input for each version, with its ``image`` and, as ``transforms``, the TransformList from
            the original image to it.
        """
        image = dataset_dict["image"].permute(1, 2, 0).cpu().numpy()
        height, width = image.shape[:2]
        original = (dataset_dict.get("height", height), dataset_dict.get("width", width))
        before: Transform = NoOpTransform()
        if original != (height, width):
            before = ResizeTransform(original[0], original[1], height, width)
        rest = {k: v for k, v in dataset_dict.items() if k != "image"}
        versions = []
        for size in self.min_sizes:
            resize = ResizeShortestEdge(size, self.max_size)
            for augmentations in ([resize], [resize, RandomFlip(prob=1.0)])[: 2 if self.flip else 1]:
                changed, transforms = apply_augmentations(augmentations, np.copy(image))
                tensor = torch.from_numpy(np.ascontiguousarray(changed.transpose(2, 0, 1)))
                versions.append(
                    {
                        **copy.deepcopy(rest),
                        "image": tensor,
                        "transforms": TransformList([before]) + transforms,
                    }
                )
        return versions


def _with_image(item: dict[str, Any], image_format: str | None) -> dict[str, Any]:
    """Add a missing ``image`` (read from ``file_name``) and missing ``height`` and ``width`` to a copy of an input."""
    item = dict(item)
    if "image" not in item:
        pixels = read_image(item["file_name"], image_format)
        item["image"] = torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))
    if "height" not in item or "width" not in item:
        item["height"], item["width"] = (int(n) for n in item["image"].shape[1:])
    return item


def _is_mirrored(transforms: TransformList) -> bool:
    return sum(isinstance(t, HFlipTransform) for t in transforms.transforms) % 2 == 1


def _move_boxes(transform: Transform | TransformList, boxes: Tensor) -> Tensor:
    """Apply a transform of NumPy coordinates to boxes [R, 4]."""
    moved = transform.apply_box(boxes.detach().cpu().numpy())
    return torch.from_numpy(moved).to(boxes)


class GeneralizedRCNNWithTTA(nn.Module):
    """Runs a :class:`.GeneralizedRCNN` on several versions of each image. Inference only.

    Boxes of all versions are merged by non-maximum suppression. Masks of the merged boxes, and heat maps of their
    keypoints, are averaged over the versions; flipped versions swap left and right keypoints.

    Args:
        cfg: config of the model, of either kind. Without a ``tta_mapper``, ``TEST.AUG`` defines the versions; a Python
            config uses the defaults of ``TEST.AUG``.
        model: the model.
        tta_mapper: creates the versions, see :class:`DatasetMapperTTA`.
        batch_size: number of versions per forward pass.

    Attributes:
        keypoint_hflip_indices: for each keypoint, the index of its partner in a flipped image. By default computed
            from ``keypoint_names`` and ``keypoint_flip_map`` in the metadata of the config's datasets.

    Raises:
        TypeError: if the model is not a GeneralizedRCNN, or is a PanopticFPN.
        NotImplementedError: if the model has no proposal generator.
    """

    def __init__(
        self, cfg: Config, model: nn.Module, tta_mapper: DatasetMapperTTA | None = None, batch_size: int = 3
    ) -> None:
        super().__init__()
        model = unwrap_model(model)
        if not isinstance(model, GeneralizedRCNN) or isinstance(model, PanopticFPN):
            raise BadType(
                f"GeneralizedRCNNWithTTA needs a GeneralizedRCNN other than PanopticFPN, got {type(model).__name__}"
            )
        if model.proposal_generator is None:
            raise NotImplementedError("test-time augmentation needs a model with a proposal generator")
        self.cfg = copy.deepcopy(cfg)
        self.model = model
        self.tta_mapper = DatasetMapperTTA(_versions_of(cfg)) if tta_mapper is None else tta_mapper
        self.batch_size = batch_size
        self.keypoint_hflip_indices: Sequence[int] | None = None

    @contextmanager
    def _turn_off_roi_heads(self, attrs: Sequence[str]) -> Iterator[None]:
        """Set flags of the ROI heads, such as ``mask_on``, to False within this context."""
        heads = self.model.roi_heads
        old = {name: getattr(heads, name) for name in attrs if hasattr(heads, name)}
        try:
            for name in old:
                setattr(heads, name, False)
            yield
        finally:
            for name, value in old.items():
                setattr(heads, name, value)

    def _batch_inference(
        self, batched_inputs: list[dict[str, Any]], detected_instances: list[Instances] | None = None
    ) -> list[Instances]:
        """Run inference in input coordinates, ``batch_size`` inputs at a time."""
        outputs: list[Instances] = []
        for start in range(0, len(batched_inputs), self.batch_size):
            part = slice(start, start + self.batch_size)
            given = None if detected_instances is None else detected_instances[part]
            outputs.extend(self.model.inference(batched_inputs[part], given, do_postprocess=False))
        return outputs

    def __call__(self, batched_inputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Run inference, with the inputs and outputs of the model in evaluation mode.

        Args:
            batched_inputs: inputs of the model; a missing ``image`` is read from ``file_name``.
        """
        image_format = self.model.input_format or "BGR"
        return [self._inference_one_image(_with_image(item, image_format)) for item in batched_inputs]

    def _inference_one_image(self, input: dict[str, Any]) -> dict[str, Any]:
        """Run inference on one input with ``image``, ``height`` and ``width``."""
        size = (int(input["height"]), int(input["width"]))
        versions, transforms = self._get_augmented_inputs(input)
        with self._turn_off_roi_heads(["mask_on", "keypoint_on"]):
            boxes, scores, classes = self._get_augmented_boxes(versions, transforms)
        merged = self._merge_detections(boxes, scores, classes, size)
        masks, keypoints = (
            getattr(self.model.roi_heads, f"{kind}_on", False) for kind in ("mask", "keypoint")
        )
        if masks or keypoints:
            again = self._rescale_detected_boxes(versions, merged, transforms)
            outputs = self._batch_inference(versions, again)
            if masks:
                merged.pred_masks = self._reduce_pred_masks(outputs, transforms)
            if keypoints:
                keypoint_rcnn_inference(self._reduce_pred_heatmaps(outputs, transforms), [merged])
            merged = detector_postprocess(merged, *size)
        return {"instances": merged}

    def _get_augmented_inputs(
        self, input: dict[str, Any]
    ) -> tuple[list[dict[str, Any]], list[TransformList]]:
        """Create the versions of an input; return them and their transforms."""
        versions = self.tta_mapper(input)
        return versions, [version.pop("transforms") for version in versions]

    def _get_augmented_boxes(
        self, augmented_inputs: list[dict[str, Any]], tfms: list[TransformList]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Predict boxes [R, 4] in original coordinates, scores [R] and classes [R], of all versions together."""
        outputs = self._batch_inference(augmented_inputs)
        boxes = [_move_boxes(t.inverse(), out.pred_boxes.tensor) for out, t in zip(outputs, tfms)]
        scores = torch.cat([out.scores for out in outputs])
        classes = torch.cat([out.pred_classes for out in outputs])
        return torch.cat(boxes), scores, classes

    def _merge_detections(
        self, all_boxes: Tensor, all_scores: Tensor, all_classes: Tensor, shape_hw: tuple[int, int]
    ) -> Instances:
        """Merge the detections of all versions by class-wise NMS."""
        heads = self.model.roi_heads
        predictor: Any = heads.box_predictor
        predictor = predictor[-1] if isinstance(predictor, nn.ModuleList) else predictor
        num_classes = int(heads.num_classes)
        table = all_scores.new_zeros((len(all_boxes), num_classes + 1))  # one score in each row
        table.scatter_(1, all_classes[:, None], all_scores[:, None])
        merged, _ = fast_rcnn_inference(
            [all_boxes],
            [table],
            [shape_hw],
            _ANY_SCORE,
            predictor.test_nms_thresh,
            predictor.test_topk_per_image,
        )
        return merged[0]

    def _rescale_detected_boxes(
        self, augmented_inputs: list[dict[str, Any]], merged_instances: Instances, tfms: list[TransformList]
    ) -> list[Instances]:
        """Transform the merged detections to the coordinates of each version."""
        moved = []
        for version, transform in zip(augmented_inputs, tfms):
            height, width = version["image"].shape[1:3]
            moved.append(
                Instances(
                    (int(height), int(width)),
                    pred_boxes=Boxes(_move_boxes(transform, merged_instances.pred_boxes.tensor)),
                    pred_classes=merged_instances.pred_classes,
                    scores=merged_instances.scores,
                )
            )
        return moved

    def _reduce_pred_masks(self, outputs: list[Instances], tfms: list[TransformList]) -> Tensor:
        """Average the soft masks [R, 1, M, M] of all versions, undoing flips."""
        masks = [
            out.pred_masks.flip(dims=[3]) if _is_mirrored(t) else out.pred_masks
            for out, t in zip(outputs, tfms)
        ]
        return torch.stack(masks).mean(dim=0)

    def _reduce_pred_heatmaps(self, outputs: list[Instances], tfms: list[TransformList]) -> Tensor:
        """Average the keypoint logits [R, K, S, S] of all versions, undoing flips."""
        maps = []
        for out, t in zip(outputs, tfms):
            logits = out.pred_keypoint_heatmaps
            if _is_mirrored(t):
                logits = logits.flip(dims=[3])[:, self._partners(logits.shape[1])]
            maps.append(logits)
        return torch.stack(maps).mean(dim=0)

    def _partners(self, num_keypoints: int) -> list[int]:
        """Return :attr:`keypoint_hflip_indices`, computed from the metadata on first use."""
        if self.keypoint_hflip_indices is None:
            names = _dataset_names(self.cfg)
            known = names and all(hasattr(MetadataCatalog.get(n), "keypoint_flip_map") for n in names)
            if not known:
                raise BadValue(
                    f"no metadata of the datasets {names} says which keypoints swap in a flipped image; set "
                    "keypoint_names and keypoint_flip_map in the metadata, or keypoint_hflip_indices of "
                    "GeneralizedRCNNWithTTA, or disable flips (TEST.AUG.FLIP False)"
                )
            self.keypoint_hflip_indices = create_keypoint_hflip_indices(names)
        if sorted(self.keypoint_hflip_indices) != list(range(num_keypoints)):
            raise BadValue(
                f"keypoint_hflip_indices must be a permutation of {num_keypoints} keypoints, "
                f"got {list(self.keypoint_hflip_indices)}"
            )
        return list(self.keypoint_hflip_indices)


class SemanticSegmentorWithTTA(nn.Module):
    """Runs a :class:`.SemanticSegmentor` on several versions of each image. Inference only.

    The class probabilities of all versions are averaged at the original size, after undoing flips.

    Args:
        cfg: config of the model, of either kind. ``INPUT.FORMAT`` is the channel order of images that are read from
            files and, without a ``tta_mapper``, ``TEST.AUG`` defines the versions. A Python config uses BGR and the
            defaults of ``TEST.AUG``.
        model: the model.
        tta_mapper: creates the versions, see :class:`DatasetMapperTTA`.
        batch_size: number of versions per forward pass.

    Raises:
        TypeError: if the model is not a SemanticSegmentor.
    """

    def __init__(
        self, cfg: Config, model: nn.Module, tta_mapper: DatasetMapperTTA | None = None, batch_size: int = 1
    ) -> None:
        super().__init__()
        model = unwrap_model(model)
        if not isinstance(model, SemanticSegmentor):
            raise BadType(f"SemanticSegmentorWithTTA needs a SemanticSegmentor, got {type(model).__name__}")
        self.cfg = copy.deepcopy(cfg)
        self.model = model
        self.tta_mapper = DatasetMapperTTA(_versions_of(cfg)) if tta_mapper is None else tta_mapper
        self.batch_size = batch_size

    def __call__(self, batched_inputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return a dict with ``sem_seg`` [C, height, width], the mean class probabilities, for each image."""
        image_format = self.cfg.INPUT.FORMAT if "INPUT" in self.cfg else "BGR"
        return [self._inference_one_image(_with_image(item, image_format)) for item in batched_inputs]

    def _probabilities(self, scores: Tensor) -> Tensor:
        """Convert the model's ``sem_seg`` [C, H, W] to scores that can be averaged."""
        return scores if self.model.predicts_probabilities else F.softmax(scores, dim=0)

    def _inference_one_image(self, input: dict[str, Any]) -> dict[str, Any]:
        versions = self.tta_mapper(input)
        mirrored = [_is_mirrored(version.pop("transforms")) for version in versions]
        total: Tensor | None = None
        for start in count(0, self.batch_size):
            part = slice(start, start + self.batch_size)
            if not versions[part]:
                break
            for out, flip in zip(self.model(versions[part]), mirrored[part]):
                scores = self._probabilities(out["sem_seg"].float())
                scores = scores.flip(dims=[2]) if flip else scores
                total = scores if total is None else total + scores
        if total is None:
            raise BadValue("the tta_mapper must return at least one version of each image, got none")
        return {"sem_seg": total / len(versions)}
