"""DINO: DETR with improved denoising anchor boxes.

Reference: https://arxiv.org/abs/2203.03605
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from detectron2.structures import Instances
from detectron2.structures.types import ModelInput
from detectron2.utils.events import get_event_storage
from detectron2.visualization import Visualizer

from .decoder import refined
from .denoising import contrastive_queries
from .detr import DeformableDetector

__all__ = ["DINO"]


class DINO(DeformableDetector):
    """Detection by queries that the encoder selects, trained with contrastive denoising.

    Args:
        backbone: from images [N, C, H, W] to named maps.
        position_embedding: from masks [N, H, W] to positions [N, embed_dim, H, W].
        neck: from named maps to a list of maps [N, embed_dim, H_l, W_l].
        transformer: the transformer.
        embed_dim: channels of queries.
        num_classes: number of classes.
        num_queries: number of queries.
        criterion: losses, with ``weight_dict``.
        pixel_mean: mean of each channel.
        pixel_std: standard deviation of each channel.
        aux_loss: also compute the losses of the layers before the last.
        select_box_nums_for_evaluation: detections per image.
        device: unused; the model runs where its weights are.
        dn_number: positive denoising queries for each image; 0 for none.
        label_noise_ratio: half of it is the share of denoising queries with a random label.
        box_noise_scale: noise of denoising boxes, in half sides.
        input_format: order of the channels, for pictures.
        vis_period: steps between pictures of the training; 0 for none.
    """

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
        pixel_mean: Sequence[float] = (123.675, 116.280, 103.530),
        pixel_std: Sequence[float] = (58.395, 57.120, 57.375),
        aux_loss: bool = True,
        select_box_nums_for_evaluation: int = 300,
        device: str = "cuda",
        dn_number: int = 100,
        label_noise_ratio: float = 0.2,
        box_noise_scale: float = 1.0,
        input_format: str | None = "RGB",
        vis_period: int = 0,
    ) -> None:
        super().__init__(
            backbone,
            position_embedding,
            neck,
            transformer,
            embed_dim,
            num_classes,
            num_queries,
            criterion,
            pixel_mean,
            pixel_std,
            aux_loss,
            select_box_nums_for_evaluation,
        )
        self.dn_number = dn_number
        self.label_noise_ratio = label_noise_ratio
        self.box_noise_scale = box_noise_scale
        self.input_format = input_format
        self.vis_period = vis_period
        self.label_enc = nn.Embedding(num_classes, embed_dim)
        # One pair of heads for each layer, and the last for the selection of queries.
        decoder: Any = transformer.decoder
        self._set_heads(decoder.num_layers + 1)
        decoder.class_embed = self.class_embed
        decoder.bbox_embed = self.bbox_embed

    def prepare_for_cdn(
        self,
        targets: Sequence[Mapping[str, Tensor]],
        dn_number: int,
        label_noise_ratio: float,
        box_noise_scale: float,
        num_queries: int,
        num_classes: int,
        hidden_dim: int,
        label_enc: nn.Module,
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None, dict[str, Any] | None]:
        """Make denoising queries; see :func:`.contrastive_queries`.

        Returns:
            queries, log-odds of their boxes, mask of self-attention, and their layout; None four times if there are
            none.
        """
        made = contrastive_queries(
            targets, label_enc, dn_number, label_noise_ratio, box_noise_scale, num_queries, num_classes
        )
        return (None, None, None, None) if made is None else (*made[:3], dict(made[3]))

    def dn_post_process(
        self, outputs_class: Tensor, outputs_coord: Tensor, dn_metas: dict[str, Any] | None
    ) -> tuple[Tensor, Tensor]:
        """Part denoising queries from the others, and put them into ``dn_metas``.

        Args:
            outputs_class: [layers, N, D + Q, classes].
            outputs_coord: [layers, N, D + Q, 4].
            dn_metas: layout of the denoising queries, or None.

        Returns:
            [layers, N, Q, classes] and [layers, N, Q, 4].
        """
        if not dn_metas or dn_metas["single_padding"] <= 0:
            return outputs_class, outputs_coord
        count = dn_metas["single_padding"] * dn_metas["dn_num"]
        dn_metas["output_known_lbs_bboxes"] = self._outputs(
            outputs_class[:, :, :count], outputs_coord[:, :, :count]
        )
        return outputs_class[:, :, count:], outputs_coord[:, :, count:]

    def forward(self, batched_inputs: list[ModelInput]) -> dict[str, Tensor] | list[dict[str, Instances]]:
        """Compute losses in training; predict in evaluation.

        Args:
            batched_inputs: for each image a dict with ``image`` [C, H, W], in training ``instances``, and optionally
                ``height`` and ``width``, the requested output size.

        Returns:
            In training a dict from names to scalar losses, weighted. In evaluation for each image a dict whose
            ``instances`` have ``pred_boxes``, ``scores`` and ``pred_classes``.
        """
        images, levels = self._levels(batched_inputs)
        queries = boxes = mask = layout = None
        targets: list[dict[str, Tensor]] = []
        if self.training:
            targets = self._targets(batched_inputs)
            proposals = sum(level.shape[2] * level.shape[3] for level in levels[0])
            queries, boxes, mask, layout = self.prepare_for_cdn(
                targets,
                self.dn_number,
                self.label_noise_ratio,
                self.box_noise_scale,
                min(self.num_queries, proposals),
                self.num_classes,
                self.embed_dim,
                self.label_enc,
            )
        states, first, later, chosen, chosen_boxes = self.transformer(
            *levels, (queries, boxes), attn_masks=[mask, None]
        )
        logits, coordinates = self._predict(states, first, later)
        if self.training and queries is None:
            # Every parameter takes part in every step, which training on several processes relies on.
            logits = logits + 0.0 * self.label_enc.weight.sum()
        logits, coordinates = self.dn_post_process(logits, coordinates, layout)
        outputs = self._outputs(logits, coordinates)
        if not self.training:
            return self._detections(outputs, images, batched_inputs)
        outputs["enc_outputs"] = {
            "pred_logits": self.class_embed[-1](chosen),
            "pred_boxes": chosen_boxes,
        }
        if self.vis_period > 0 and get_event_storage().iter % self.vis_period == 0:
            with torch.no_grad():
                sizes = images.image_sizes
                found = self.inference(outputs["pred_logits"], outputs["pred_boxes"], sizes)
            self.visualize_training(batched_inputs, found)
        return self._weighted(self.criterion(outputs, targets, layout))

    def decode(self, levels: list[list[Tensor]]) -> tuple[Tensor, Tensor]:
        """Predict from maps, masks and positions of the levels, without denoising."""
        states, first, later, _, _ = self.transformer(*levels, (None, None), attn_masks=[None, None])
        return self._predict(states, first, later)

    def _predict(self, states: Tensor, first: Tensor, later: Tensor) -> tuple[Tensor, Tensor]:
        """Logits and boxes after each layer; each layer refines the boxes of the one before."""
        before = [first, *later[:-1]]
        logits = [head(state) for head, state in zip(self.class_embed, states)]
        boxes = [refined(head(s), ref) for head, s, ref in zip(self.bbox_embed, states, before)]
        return torch.stack(logits), torch.stack(boxes)

    def visualize_training(self, batched_inputs: list[ModelInput], results: Sequence[Instances]) -> None:
        """Draw ground truth beside the 20 best detections of the first image into the event storage."""
        item, result = batched_inputs[0], results[0][:20]
        image = item["image"].permute(1, 2, 0).cpu().numpy()
        if self.input_format == "BGR":
            image = image[:, :, ::-1]
        truth = Visualizer(image).overlay_instances(boxes=item["instances"].gt_boxes.to("cpu"))
        found = Visualizer(image).overlay_instances(boxes=result.pred_boxes.tensor.detach().cpu().numpy())
        pictures = [torch.from_numpy(v.get_image().copy()).permute(2, 0, 1) for v in (truth, found)]
        get_event_storage().put_image(
            "Left: GT bounding boxes;  Right: Predicted boxes", torch.cat(pictures, 2)
        )
