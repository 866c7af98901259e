"""What DINO and Deformable DETR have in common: from images to maps, from logits and boxes to detections."""

import copy
import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detectron2.modeling.postprocessing import detector_postprocess
from detectron2.modeling.transformer import MLP, select
from detectron2.structures import Boxes, ImageList, Instances
from detectron2.structures.types import ModelInput
from detectron2.utils.errors import BadValue

from .functions import box_cxcywh_to_xyxy, box_xyxy_to_cxcywh

__all__ = ["DeformableDetector", "make_heads"]


def make_heads(embed_dim: int, num_classes: int) -> tuple[nn.Linear, MLP]:
    """Make heads of classes and boxes, which begin with a probability of 1 % and without an offset."""
    class_embed, bbox_embed = nn.Linear(embed_dim, num_classes), MLP(embed_dim, embed_dim, 4, 3)
    nn.init.constant_(class_embed.bias, -math.log((1 - 0.01) / 0.01))
    last = bbox_embed.layers[-1]
    assert isinstance(last, nn.Linear)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return class_embed, bbox_embed


class _Best(NamedTuple):
    """The best pairs of query and class of each image."""

    scores: Tensor  # [N, D], best first
    classes: Tensor  # [N, D]
    corners: Tensor  # [N, D, 4] in [0, 1]


class DeformableDetector(nn.Module):
    """Base of detection transformers over a pyramid: backbone, neck, positions and heads."""

    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(
        self,
        backbone: nn.Module,
        position_embedding: nn.Module,
        neck: nn.Module,
        transformer: nn.Module,
        embed_dim: int,
        num_classes: int,
        num_queries: int,
        criterion: nn.Module,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
        aux_loss: bool,
        select_box_nums_for_evaluation: int,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.position_embedding = position_embedding
        self.neck = neck
        self.transformer = transformer
        self.embed_dim = embed_dim
        self.num_classes = num_classes
        self.num_queries = num_queries
        self.criterion = criterion
        self.aux_loss = aux_loss
        self.select_box_nums_for_evaluation = select_box_nums_for_evaluation
        for name, values in (("pixel_mean", pixel_mean), ("pixel_std", pixel_std)):
            self.register_buffer(name, torch.tensor(list(values)).view(-1, 1, 1), persistent=False)
        for m in neck.modules():
            if isinstance(m, nn.Conv2d):
                nn.init.xavier_uniform_(m.weight)
                if m.bias is not None:
                    nn.init.zeros_(m.bias)

    @property
    def device(self) -> torch.device:
        """Device of the model."""
        return self.pixel_mean.device

    def _set_heads(self, layers: int, shared: bool = False) -> None:
        """Make heads for each layer: copies, or the same one for all."""
        class_embed, bbox_embed = make_heads(self.embed_dim, self.num_classes)
        if shared:
            self.class_embed = nn.ModuleList([class_embed] * layers)
            self.bbox_embed = nn.ModuleList([bbox_embed] * layers)
        else:
            self.class_embed = nn.ModuleList(copy.deepcopy(class_embed) for _ in range(layers))
            self.bbox_embed = nn.ModuleList(copy.deepcopy(bbox_embed) for _ in range(layers))

    def preprocess_image(self, batched_inputs: list[ModelInput]) -> ImageList:
        """Normalise, pad and batch the images [C, H, W] under the key ``image``."""
        images = [(x["image"].to(self.device) - self.pixel_mean) / self.pixel_std for x in batched_inputs]
        return ImageList.from_tensors(images)

    def _levels(self, batched_inputs: list[ModelInput]) -> tuple[ImageList, list[list[Tensor]]]:
        """Images, and the maps, masks and positions of the levels. Padding is masked in training only."""
        images = self.preprocess_image(batched_inputs)
        n, _, height, width = images.tensor.shape
        hidden = torch.zeros(n, height, width, device=self.device)
        if self.training:
            for mask, (h, w) in zip(hidden, images.image_sizes):
                mask[h:] = 1
                mask[:, w:] = 1
        return images, self._pyramid(images.tensor, hidden)

    def _pyramid(self, images: Tensor, hidden: Tensor) -> list[list[Tensor]]:
        """Compute maps, masks and positions of the levels from images [N, C, H, W] and the mask of padding [N, H, W]."""
        maps = list(self.neck(self.backbone(images)))
        masks = [F.interpolate(hidden[None], size=m.shape[-2:])[0].bool() for m in maps]
        return [maps, masks, [self.position_embedding(m) for m in masks]]

    @abstractmethod
    def decode(self, levels: list[list[Tensor]]) -> tuple[Tensor, Tensor]:
        """Predict from maps, masks and positions of the levels, without denoising.

        Returns:
            [layers, N, Q, classes] logits and [layers, N, Q, 4] boxes after each layer of the decoder.
        """

    def predict_tensors(self, images: Tensor) -> dict[str, Tensor]:
        """Detect the same number of objects in each of N images [N, C, H, W]; see :class:`.TensorInference`."""
        height, width = images.shape[-2:]
        scaled = (images.to(self.device) - self.pixel_mean) / self.pixel_std
        logits, boxes = self.decode(self._pyramid(scaled, torch.zeros_like(scaled[:, 0])))
        best = self._best(logits[-1], boxes[-1])
        ends = torch.stack([scaled.new_tensor(1.0) * side for side in (width, height, width, height)])
        corners = torch.minimum((best.corners * ends).clamp(min=0), ends)
        valid = (corners[..., 2] > corners[..., 0]) & (corners[..., 3] > corners[..., 1])
        return {"boxes": corners, "scores": best.scores, "classes": best.classes, "valid": valid}

    def _targets(self, batched_inputs: list[ModelInput]) -> list[dict[str, Tensor]]:
        if any("instances" not in item for item in batched_inputs):
            raise BadValue("training needs 'instances' in every input; call .eval() to predict only")
        return self.prepare_targets([item["instances"].to(self.device) for item in batched_inputs])

    def prepare_targets(self, targets: Sequence[Instances]) -> list[dict[str, Tensor]]:
        """Return ``labels`` [T] and ``boxes`` [T, 4] (centre and size in [0, 1] of the image) of each image."""
        prepared = []
        for item in targets:
            height, width = item.image_size
            boxes = item.gt_boxes.tensor
            scale = boxes.new_tensor([width, height, width, height])
            prepared.append({"labels": item.gt_classes, "boxes": box_xyxy_to_cxcywh(boxes / scale)})
        return prepared

    def _outputs(self, logits: Tensor, boxes: Tensor) -> dict[str, Any]:
        """Predictions of all layers [layers, N, Q, ...] in the form that the criterion takes."""
        outputs: dict[str, Any] = {"pred_logits": logits[-1], "pred_boxes": boxes[-1]}
        if self.aux_loss:
            outputs["aux_outputs"] = [
                {"pred_logits": a, "pred_boxes": b} for a, b in zip(logits[:-1], boxes[:-1])
            ]
        return outputs

    def _weighted(self, losses: Mapping[str, Tensor]) -> dict[str, Tensor]:
        weights: Mapping[str, float] = self.criterion.weight_dict  # type: ignore[assignment]
        return {name: loss * weights.get(name, 1) for name, loss in losses.items()}

    def inference(
        self, box_cls: Tensor, box_pred: Tensor, image_sizes: Sequence[tuple[int, int]]
    ) -> list[Instances]:
        """Take the best pairs of query and class.

        Args:
            box_cls: [N, Q, classes] logits.
            box_pred: [N, Q, 4] centre and size in [0, 1].
            image_sizes: (height, width) of the images.

        Returns:
            for each image ``pred_boxes``, ``scores`` and ``pred_classes``, best first.
        """
        best = self._best(box_cls, box_pred)
        found = []
        for i, (height, width) in enumerate(image_sizes):
            boxes = Boxes(best.corners[i])
            boxes.scale(scale_x=width, scale_y=height)
            result = Instances((height, width))
            result.pred_boxes = boxes
            result.scores = best.scores[i]
            result.pred_classes = best.classes[i]
            found.append(result)
        return found

    def _best(self, logits: Tensor, boxes: Tensor) -> _Best:
        """Take the best pairs of query and class from logits [N, Q, classes] and boxes [N, Q, 4]."""
        classes = logits.shape[2]
        scores = logits.sigmoid().flatten(1)
        best = scores.topk(min(self.select_box_nums_for_evaluation, scores.shape[1]), 1)
        queries = torch.div(best.indices, classes, rounding_mode="floor")
        return _Best(best.values, best.indices % classes, select(box_cxcywh_to_xyxy(boxes), queries))

    def _detections(
        self, outputs: Mapping[str, Any], images: ImageList, batched_inputs: list[ModelInput]
    ) -> list[dict[str, Instances]]:
        results = self.inference(outputs["pred_logits"], outputs["pred_boxes"], images.image_sizes)
        detections = []
        for result, item, (h, w) in zip(results, batched_inputs, images.image_sizes):
            resized = detector_postprocess(result, int(item.get("height", h)), int(item.get("width", w)))
            detections.append({"instances": resized})
        return detections
