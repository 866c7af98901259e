"""The architecture of Panoptic-DeepLab; its heads are in ``heads.py``."""

from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor, nn

from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.layers import ShapeSpec
from detectron2.modeling import META_ARCH_REGISTRY, SemanticSegmentor
from detectron2.modeling.postprocessing import sem_seg_postprocess
from detectron2.structures import BitMasks, Instances
from detectron2.utils.reexports import publish

from .heads import INS_EMBED_BRANCHES_REGISTRY, PanopticDeepLabInsEmbedHead, PanopticDeepLabSemSegHead
from .post_processing import get_panoptic_segmentation

__all__ = [
    "INS_EMBED_BRANCHES_REGISTRY",
    "PanopticDeepLab",
    "PanopticDeepLabInsEmbedHead",
    "PanopticDeepLabSemSegHead",
    "build_ins_embed_branch",
]

publish(__name__, PanopticDeepLabInsEmbedHead, PanopticDeepLabSemSegHead)

VOID = -1
"""Segment id of pixels without a segment."""


def build_ins_embed_branch(cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> nn.Module:
    """Build the head named by ``MODEL.INS_EMBED_HEAD.NAME``."""
    return INS_EMBED_BRANCHES_REGISTRY.get(cfg.MODEL.INS_EMBED_HEAD.NAME)(cfg, input_shape)


@META_ARCH_REGISTRY.register()
class PanopticDeepLab(SemanticSegmentor):
    """A segmentor with a second head that separates the objects of a class.

    Args:
        cfg: a config with the keys of ``add_panoptic_deeplab_config``. Evaluation takes
            ``thing_dataset_id_to_contiguous_id`` and ``label_divisor`` from the first dataset in ``DATASETS.TRAIN``.

    Reference: https://arxiv.org/abs/1911.10194
    """

    def __init__(self, cfg: CfgNode) -> None:
        node = cfg.MODEL.PANOPTIC_DEEPLAB
        if cfg.MODEL.SEM_SEG_HEAD.USE_DEPTHWISE_SEPARABLE_CONV != node.USE_DEPTHWISE_SEPARABLE_CONV:
            raise ValueError(
                "USE_DEPTHWISE_SEPARABLE_CONV must be the same in MODEL.SEM_SEG_HEAD and MODEL.PANOPTIC_DEEPLAB"
            )
        super().__init__(**SemanticSegmentor.from_config(cfg))
        self.ins_embed_head = build_ins_embed_branch(cfg, self.backbone.output_shape())
        self.meta = MetadataCatalog.get(cfg.DATASETS.TRAIN[0])
        self.stuff_area = node.STUFF_AREA
        self.threshold = node.CENTER_THRESHOLD
        self.nms_kernel = node.NMS_KERNEL
        self.top_k = node.TOP_K_INSTANCE
        self.predict_instances = node.PREDICT_INSTANCES
        self.benchmark_network_speed = node.BENCHMARK_NETWORK_SPEED
        self.size_divisibility = node.SIZE_DIVISIBILITY

    def forward(self, batched_inputs: list[Any]) -> Any:
        """Compute losses in training, segments in evaluation.

        Args:
            batched_inputs: for each image a dict with ``image`` [C, H, W], in training the maps of
                :class:`.PanopticDeepLabTargetGenerator` (``sem_seg_weights`` may be missing), and optionally
                ``height`` and ``width``, the output size.

        Returns:
            In training a dict of losses. In evaluation for each image a dict with ``sem_seg``, class scores
            [C, height, width]; ``panoptic_seg``, a pair of segments int64 [height, width] (-1 = none, otherwise
            ``class * label_divisor + number``) and None; and, if ``PREDICT_INSTANCES``, ``instances``, the things.
            With ``BENCHMARK_NETWORK_SPEED``, an empty list.
        """
        images = self._make_batch(batched_inputs)
        features = self.backbone(images.tensor)
        if self.training:
            return self._losses(features, batched_inputs)
        scores, _ = self.sem_seg_head(features)
        centers, offsets, _, _ = self.ins_embed_head(features)
        if self.benchmark_network_speed:
            return []
        return [
            self._result(scores[i], centers[i], offsets[i], item, size)
            for i, (item, size) in enumerate(zip(batched_inputs, images.image_sizes))
        ]

    def _padding_constraints(self, maps: list[Tensor]) -> dict[str, int]:
        own = {"size_divisibility": self.size_divisibility} if self.size_divisibility > 0 else {}
        return super()._padding_constraints(maps) | own

    def _losses(self, features: dict[str, Tensor], batched_inputs: list[dict[str, Any]]) -> dict[str, Tensor]:
        def batch(name: str, padding: float = 0.0) -> Tensor:
            if any(name not in item for item in batched_inputs):
                raise ValueError(
                    f"training of Panoptic-DeepLab needs {name!r} in every input; PanopticDeeplabDatasetMapper "
                    f"makes it"
                )
            return self._pad([item[name].to(self.device) for item in batched_inputs], padding).tensor

        weighted = all("sem_seg_weights" in item for item in batched_inputs)
        head: Any = self.sem_seg_head  # unlike other heads it takes weights
        ignore = head.ignore_value
        _, losses = head(features, batch("sem_seg", ignore), batch("sem_seg_weights") if weighted else None)
        _, _, center_losses, offset_losses = self.ins_embed_head(
            features,
            batch("center").unsqueeze(1),
            batch("center_weights"),
            batch("offset"),
            batch("offset_weights"),
        )
        return {**losses, **center_losses, **offset_losses}

    def _result(
        self, scores: Tensor, center: Tensor, offset: Tensor, item: dict[str, Any], size: tuple[int, int]
    ) -> dict[str, Any]:
        """Make the result of one image.

        Args:
            scores: class scores [C, H, W], with padding.
            center: heat map of centres [1, H, W].
            offset: [2, H, W].
            item: model input, with the output ``height`` and ``width`` if given.
            size: height and width of the image without padding.
        """
        height, width = item.get("height", size[0]), item.get("width", size[1])
        scores, center, offset = (
            sem_seg_postprocess(m, size, height, width) for m in (scores, center, offset)
        )
        offset = offset * offset.new_tensor([height / size[0], width / size[1]])[:, None, None]
        things = set(self.meta.thing_dataset_id_to_contiguous_id.values())
        segments, _ = get_panoptic_segmentation(
            scores.argmax(dim=0, keepdim=True),
            center,
            offset,
            thing_ids=things,
            label_divisor=self.meta.label_divisor,
            stuff_area=self.stuff_area,
            void_label=VOID,
            threshold=self.threshold,
            nms_kernel=self.nms_kernel,
            top_k=self.top_k,
        )
        result: dict[str, Any] = {"sem_seg": scores, "panoptic_seg": (segments[0], None)}
        if self.predict_instances:
            result["instances"] = instances_of_segments(
                segments[0], scores.softmax(dim=0), center[0], things, self.meta.label_divisor
            )
        return result


def instances_of_segments(
    segments: Tensor, probabilities: Tensor, center: Tensor, thing_ids: Collection[int], label_divisor: int
) -> Instances:
    """Convert the segments of things to Instances.

    The score is the mean probability of the class over the segment, times the heat map at the centre of the segment.

    Args:
        segments: ``class * label_divisor + number``, int64 [H, W]; negative = no segment.
        probabilities: class probabilities [C, H, W].
        center: heat map of centres [H, W].
        thing_ids: classes that are things.
        label_divisor: see ``segments``.

    Returns:
        Instances with ``pred_classes``, ``scores``, ``pred_masks`` (bool [R, H, W]) and ``pred_boxes``.
    """
    height, width = segments.shape
    labels, index, area = torch.unique(segments, return_inverse=True, return_counts=True)
    classes = labels.div(label_divisor, rounding_mode="floor")
    # [H, W]: probability of the class of each pixel's segment
    own = probabilities.gather(0, classes.clamp(min=0)[index][None])[0]
    rows = torch.arange(height, device=segments.device, dtype=own.dtype)[:, None].expand(height, width)
    columns = torch.arange(width, device=segments.device, dtype=own.dtype).expand(height, width)
    values = torch.stack([own, rows, columns], dim=-1).flatten(0, 1)
    sums = values.new_zeros(len(labels), 3).index_add(0, index.flatten(), values)
    probability, y, x = (sums / area[:, None]).unbind(dim=1)
    scores = probability * center[y.long(), x.long()]

    known = torch.tensor(sorted(thing_ids), device=labels.device, dtype=labels.dtype)
    keep = torch.isin(classes, known) & (labels >= 0)
    masks = segments == labels[keep][:, None, None]
    return Instances(
        (height, width),
        pred_classes=classes[keep],
        scores=scores[keep],
        pred_masks=masks,
        pred_boxes=BitMasks(masks).get_bounding_boxes(),
    )
