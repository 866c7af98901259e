"""The TensorMask model.

TensorMask (Chen et al. 2019, https://arxiv.org/abs/1903.12174).
N images, L levels, A windows per cell, R windows per image, K classes, F windows with an object.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from detectron2.layers import batched_nms, cat
from detectron2.layers.losses import smooth_l1_loss
from detectron2.modeling import META_ARCH_REGISTRY, build_backbone
from detectron2.modeling.box_regression import Box2BoxTransform
from detectron2.modeling.meta_arch import ImageModel, ground_truth, output_size
from detectron2.modeling.meta_arch.dense_detector import permute_to_N_HWA_K
from detectron2.structures import Boxes, ImageList, Instances
from detectron2.structures.types import ModelInput

from .anchors import TensorMaskAnchorGenerator, match_windows
from .head import TensorMaskHead
from .postprocessing import paste_windows

__all__ = ["TensorMask"]

MaskTargets = tuple[list[list[Tensor | None]], list[list[Tensor | None]]]


@META_ARCH_REGISTRY.register()
class TensorMask(ImageModel):
    """Predict a class, a box and a mask for windows of a few sizes at every cell.

    Args:
        cfg: config; the model reads ``MODEL.TENSOR_MASK``, ``MODEL.ANCHOR_GENERATOR``, ``MODEL.MASK_ON``, the backbone's
            keys, the pixel statistics and ``TEST.DETECTIONS_PER_IMAGE``.

    Raises:
        ValueError: windows are not the same whole number of cells on all levels.
    """

    def __init__(self, cfg: Any) -> None:
        super().__init__()
        node = cfg.MODEL.TENSOR_MASK
        self.num_classes = node.NUM_CLASSES
        self.in_features = node.IN_FEATURES
        self.num_levels = len(self.in_features)
        self.focal_loss_alpha = node.FOCAL_LOSS_ALPHA
        self.focal_loss_gamma = node.FOCAL_LOSS_GAMMA
        self.score_threshold = node.SCORE_THRESH_TEST
        self.topk_candidates = node.TOPK_CANDIDATES_TEST
        self.nms_threshold = node.NMS_THRESH_TEST
        self.detections_im = cfg.TEST.DETECTIONS_PER_IMAGE
        self.mask_on = cfg.MODEL.MASK_ON
        self.mask_loss_weight = node.MASK_LOSS_WEIGHT
        self.mask_pos_weight = node.POSITIVE_WEIGHT
        self.bipyramid_on = node.BIPYRAMID_ON

        self.backbone = build_backbone(cfg)
        shapes = [self.backbone.output_shape()[name] for name in self.in_features]
        self.anchor_generator = TensorMaskAnchorGenerator(cfg, shapes)  # type: ignore[call-arg,misc]
        self.mask_sizes = _cells_per_window(cfg.MODEL.ANCHOR_GENERATOR, self.anchor_generator.strides)
        self.num_anchors = len(self.mask_sizes)
        # Objects up to this size, however small, fit the smallest window less a cell.
        self.min_anchor_size = (min(self.mask_sizes) - 1) * self.anchor_generator.strides[0]
        self.head = TensorMaskHead(cfg, shapes[0].channels, self.num_levels, self.mask_sizes)  # type: ignore[call-arg,misc]
        self.box2box_transform = Box2BoxTransform(weights=node.BBOX_REG_WEIGHTS)
        self._set_pixel_statistics(cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD)

    def preprocess_image(self, batched_inputs: list[ModelInput]) -> ImageList:
        """Normalise, pad and batch the images [C, H, W] under the key ``image``."""
        return self._make_batch(batched_inputs)

    def forward(self, batched_inputs: list[ModelInput]) -> Any:
        """Compute losses in training and results in evaluation.

        Args:
            batched_inputs: for each image a dict with ``image``, in training ``instances`` (with ``gt_boxes``,
                ``gt_classes`` and ``gt_masks``), and optionally ``height`` and ``width``, the output size.

        Returns:
            In training ``loss_cls``, ``loss_box_reg`` and ``loss_mask``; in evaluation for each image a dict whose
            ``instances`` have ``pred_boxes``, ``scores``, ``pred_classes`` and ``pred_masks`` (bool, [D, H, W]).
        """
        images = self.preprocess_image(batched_inputs)
        features = self.backbone(images.tensor)
        maps = [features[name] for name in self.in_features]
        logits, deltas, masks = self.head(maps)
        anchors, unit_lengths, indexes = self.anchor_generator(maps)
        if self.training:
            targets = ground_truth(batched_inputs, self.device) or []
            truth = self.get_ground_truth(anchors, unit_lengths, indexes, targets)
            return self.losses(*truth, logits, deltas, masks)
        found = self.inference(logits, deltas, masks, anchors, indexes, images)
        return [
            {"instances": paste_windows(instances, *output_size(item, size))}
            for instances, item, size in zip(found, batched_inputs, images.image_sizes)
        ]

    def losses(
        self,
        gt_class_info: tuple[Tensor, Tensor],
        gt_delta_info: tuple[Tensor, Tensor],
        gt_mask_info: MaskTargets,
        num_fg: int,
        pred_logits: list[Tensor],
        pred_deltas: list[Tensor],
        pred_masks: list[list[Tensor]] | None,
    ) -> dict[str, Tensor]:
        """Compute the losses, each divided by the number of windows with an object.

        Args:
            gt_class_info, gt_delta_info, gt_mask_info, num_fg: from :meth:`get_ground_truth`.
            pred_logits, pred_deltas, pred_masks: from the head.
        """
        logits = cat([permute_to_N_HWA_K(x, self.num_classes) for x in pred_logits], dim=1).flatten(0, 1)
        deltas = cat([permute_to_N_HWA_K(x, 4) for x in pred_deltas], dim=1).flatten(0, 1)
        (classes, valid), (gt_deltas, foreground) = gt_class_info, gt_delta_info
        scale = 1.0 / max(num_fg, 1)
        classification = _focal_loss_star(
            logits[valid], classes[valid].to(logits.dtype), self.focal_loss_alpha, self.focal_loss_gamma
        )
        location = smooth_l1_loss(deltas[foreground], gt_deltas, beta=0.0, reduction="sum")
        found = {"loss_cls": classification * scale, "loss_box_reg": location * scale}
        if pred_masks is not None:
            found["loss_mask"] = self._mask_loss(gt_mask_info, pred_masks) * scale
        return found

    def _mask_loss(self, gt_mask_info: MaskTargets, pred_masks: list[list[Tensor]]) -> Tensor:
        """Return the sum over windows of the mean cross-entropy of their masks."""
        total = pred_masks[0][0].new_zeros(())
        weight = torch.tensor(self.mask_pos_weight, device=total.device)
        for predicted, masks, places in zip(pred_masks, *gt_mask_info):
            for logits, target, place in zip(predicted, masks, places):
                if target is None or place is None:
                    total = total + logits[:0].sum()  # 0, but keeps the layer in the graph
                    continue
                image, y, x = place.unbind(1)
                loss = F.binary_cross_entropy_with_logits(
                    logits[image, :, y, x],
                    target.flatten(1).to(logits.dtype),
                    reduction="sum",
                    pos_weight=weight,
                )
                total = total + loss * (self.mask_loss_weight / target[0].numel())
        return total

    @torch.no_grad()
    def get_ground_truth(
        self,
        anchors: list[list[Boxes]],
        unit_lengths: list[list[Tensor]],
        indexes: list[list[Tensor]],
        targets: list[Instances],
    ) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor], MaskTargets, int]:
        """Compute the target of each window of a batch.

        Args:
            anchors, unit_lengths, indexes: from the anchor generator.
            targets: N Instances with ``gt_boxes``, ``gt_classes`` and, with masks, ``gt_masks``.

        Returns:
            Four values: classes bool [N * R, K] and which windows count for them, bool [N * R]; deltas [F, 4] and which
            windows they belong to, bool [N * R]; for each level and window number the masks [F_la, V, V] and where they
            are, int64 [F_la, 3] (image, row, column), or None and None if there are none; and F.
        """
        classes, deltas, foregrounds = [], [], []
        chosen: list[Tensor] = []
        objects: list[Tensor] = []
        for boxes, units, gt in zip(anchors, unit_lengths, targets):
            windows = Boxes.cat(boxes).tensor
            matches, has = match_windows(gt.gt_boxes.tensor, windows, torch.cat(units), self.min_anchor_size)
            rows = torch.nonzero(has)[:, 0]
            label = torch.zeros(len(windows), self.num_classes, dtype=torch.bool, device=windows.device)
            label[rows, gt.gt_classes[matches[rows]]] = True
            classes.append(label)
            foregrounds.append(has)
            deltas.append(self.box2box_transform.get_deltas(windows[rows], gt.gt_boxes.tensor[matches[rows]]))
            chosen.append(rows)
            objects.append(matches[rows])
        foreground = torch.cat(foregrounds)
        masks = self._mask_targets(anchors, indexes, targets, chosen, objects) if self.mask_on else ([], [])
        everything = torch.ones_like(foreground)  # unlike with IoU thresholds, no window is ignored
        count = sum(len(rows) for rows in chosen)
        return (torch.cat(classes), everything), (torch.cat(deltas), foreground), masks, count

    def _mask_targets(
        self,
        anchors: list[list[Boxes]],
        indexes: list[list[Tensor]],
        targets: list[Instances],
        chosen: list[Tensor],
        objects: list[Tensor],
    ) -> MaskTargets:
        """Return the masks of the chosen windows, each cropped to its window and resized to the window's resolution."""
        masks: list[list[Any]] = [[[] for _ in range(self.num_anchors)] for _ in range(self.num_levels)]
        places: list[list[Any]] = [[[] for _ in range(self.num_anchors)] for _ in range(self.num_levels)]
        for image, (boxes, index, gt) in enumerate(zip(anchors, indexes, targets)):
            windows, where = Boxes.cat(boxes).tensor[chosen[image]], torch.cat(index)[chosen[image]]
            where[:, 1] = image
            kind = where[:, 0] * self.num_anchors + where[:, 4]
            counts = torch.bincount(kind, minlength=self.num_levels * self.num_anchors).tolist()
            for i, here in enumerate(kind.argsort(stable=True).split(counts)):
                if len(here) == 0:
                    continue
                level, number = divmod(i, self.num_anchors)
                shown = gt.gt_masks[objects[image][here]]
                size = self._mask_size(level, number)
                masks[level][number].append(shown.crop_and_resize(windows[here], size))
                places[level][number].append(where[here, 1:4])
        return _joined(masks), _joined(places)

    def _mask_size(self, level: int, number: int) -> int:
        return self.mask_sizes[number] * (2**level if self.bipyramid_on else 1)

    def inference(
        self,
        pred_logits: list[Tensor],
        pred_deltas: list[Tensor],
        pred_masks: list[list[Tensor]] | None,
        anchors: list[list[Boxes]],
        indexes: list[list[Tensor]],
        images: ImageList,
    ) -> list[Instances]:
        """Return the detections of N images, in the coordinates of the images; see :meth:`inference_single_image`."""
        logits = cat([permute_to_N_HWA_K(x, self.num_classes) for x in pred_logits], dim=1)
        deltas = cat([permute_to_N_HWA_K(x, 4) for x in pred_deltas], dim=1)
        found = []
        for i, size in enumerate(images.image_sizes):
            masks = None if pred_masks is None else [[m[i] for m in level] for level in pred_masks]
            boxes, index = Boxes.cat(anchors[i]), torch.cat(indexes[i])
            found.append(self.inference_single_image(logits[i], deltas[i], masks, boxes, index, size))
        return found

    def inference_single_image(
        self,
        pred_logits: Tensor,
        pred_deltas: Tensor,
        pred_masks: list[list[Tensor]] | None,
        anchors: Boxes,
        indexes: Tensor,
        image_size: tuple[int, int],
    ) -> Instances:
        """Return the detections of one image: the best windows of all levels after NMS.

        Args:
            pred_logits: [R, K].
            pred_deltas: [R, 4].
            pred_masks: for each level and window number logits [V * V, H, W]; None = no masks.
            anchors: the windows, [R].
            indexes: int64 [R, 5], from the anchor generator.
            image_size: height and width.

        Returns:
            Instances with ``pred_boxes``, ``scores`` and ``pred_classes`` in descending order of score, and, with masks,
            ``pred_windows`` and ``pred_masks``, a soft mask [V, V] for each of them, in a list as their sizes differ.
        """
        probabilities = pred_logits.sigmoid().flatten()
        passed = torch.nonzero(probabilities > self.score_threshold)[:, 0]
        scores, order = probabilities[passed].topk(min(self.topk_candidates, len(passed)))
        rows = torch.div(passed[order], self.num_classes, rounding_mode="floor")
        classes = passed[order] % self.num_classes
        boxes = self.box2box_transform.apply_deltas(pred_deltas[rows], anchors.tensor[rows])
        finite = torch.nonzero(boxes.isfinite().all(dim=1))[:, 0]
        keep = batched_nms(boxes[finite], scores[finite], classes[finite], self.nms_threshold)
        keep = finite[keep[: self.detections_im]]
        found = Instances(
            image_size, pred_boxes=Boxes(boxes[keep]), scores=scores[keep], pred_classes=classes[keep]
        )
        if pred_masks is not None:
            found.pred_windows = anchors[rows[keep]]
            found.pred_masks = [
                pred_masks[level][number][:, y, x]
                .sigmoid()
                .unflatten(0, (self._mask_size(level, number), -1))
                for level, _, y, x, number in indexes[rows[keep]].tolist()
            ]
        return found


def _cells_per_window(node: Any, strides: Sequence[int]) -> list[int]:
    """Return the side of each window in cells, the same on all levels; ``node`` is ``MODEL.ANCHOR_GENERATOR``."""
    sides = [[size / stride for size in level] for level, stride in zip(node.SIZES, strides)]
    if len(sides) != len(strides) or any(s != sides[0] for s in sides) or any(s % 1 for s in sides[0]):
        raise ValueError(
            "MODEL.ANCHOR_GENERATOR.SIZES must be multiples of the strides, the same ones on all levels, because masks "
            f"consist of cells; got {sides} cells for the strides {list(strides)}"
        )
    if any(ratio != 1.0 for ratios in node.ASPECT_RATIOS for ratio in ratios):
        raise ValueError(
            f"windows are square: MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS must be [[1.0]], got {node.ASPECT_RATIOS}"
        )
    return [int(side) for side in sides[0]]


def _joined(lists: list[list[Any]]) -> list[list[Tensor | None]]:
    return [[torch.cat(parts) if parts else None for parts in level] for level in lists]


def _focal_loss_star(logits: Tensor, targets: Tensor, alpha: float, gamma: float) -> Tensor:
    """Return the sum of FL*: cross-entropy of logits multiplied by ``gamma``, divided by ``gamma``.

    Focal Loss for Dense Object Detection (Lin et al. 2017, https://arxiv.org/abs/1708.02002), appendix A.
    """
    towards = torch.where(targets > 0, logits, -logits)
    loss = -F.logsigmoid(gamma * towards) / gamma
    if alpha >= 0:
        loss = loss * torch.where(targets > 0, alpha, 1 - alpha)
    return loss.sum()
