"""The head of Mask2Former: a pixel decoder, followed by a transformer decoder."""

from typing import Any

from torch import Tensor, nn

from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling import SEM_SEG_HEADS_REGISTRY, build_pixel_decoder

from .transformer_decoder import build_transformer_decoder

__all__ = ["MaskFormerHead"]


@SEM_SEG_HEADS_REGISTRY.register()
class MaskFormerHead(nn.Module):
    """Predict a set of classified masks from the feature maps of a backbone.

    Args:
        input_shape: channels and stride of the feature maps.
        num_classes: number of classes, without "no object".
        pixel_decoder: module with ``forward_features``, see :class:`.MSDeformAttnPixelDecoder`.
        loss_weight: unused.
        ignore_value: label of ignored pixels.
        transformer_predictor: the transformer decoder.
        transformer_in_feature: input of the transformer decoder: "multi_scale_pixel_decoder" (three levels), "transformer_encoder" (the
            coarsest level), "pixel_embedding" (the mask features), or a feature map of the backbone.
    """

    _version = 2

    @configurable
    def __init__(
        self,
        input_shape: dict[str, ShapeSpec],
        *,
        num_classes: int,
        pixel_decoder: nn.Module,
        loss_weight: float = 1.0,
        ignore_value: int = -1,
        transformer_predictor: nn.Module,
        transformer_in_feature: str,
    ) -> None:
        super().__init__()
        self.in_features = sorted(input_shape, key=lambda name: input_shape[name].stride or 0)
        self.ignore_value = ignore_value
        self.common_stride = 4
        self.loss_weight = loss_weight
        self.pixel_decoder = pixel_decoder
        self.predictor = transformer_predictor
        self.transformer_in_feature = transformer_in_feature
        self.num_classes = num_classes

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict[str, Any]:
        """Read ``MODEL.SEM_SEG_HEAD`` and ``MODEL.MASK_FORMER``, and build the children."""
        head = cfg.MODEL.SEM_SEG_HEAD
        seen = cfg.MODEL.MASK_FORMER.TRANSFORMER_IN_FEATURE
        if seen in ("multi_scale_pixel_decoder", "transformer_encoder"):
            channels = head.CONVS_DIM
        else:
            channels = head.MASK_DIM if seen == "pixel_embedding" else input_shape[seen].channels
        return {
            "input_shape": {k: v for k, v in input_shape.items() if k in head.IN_FEATURES},
            "ignore_value": head.IGNORE_VALUE,
            "num_classes": head.NUM_CLASSES,
            "pixel_decoder": build_pixel_decoder(cfg, input_shape),
            "loss_weight": head.LOSS_WEIGHT,
            "transformer_in_feature": seen,
            "transformer_predictor": build_transformer_decoder(cfg, channels, mask_classification=True),
        }

    def _load_from_state_dict(
        self, state_dict: dict[str, Tensor], prefix: str, local_metadata: dict[str, Any], *args: Any
    ) -> None:
        # Early versions had the layers of the pixel decoder in the head. A dict without a version may be old or new.
        if (local_metadata.get("version") or 1) < 2:
            known = (f"{prefix}pixel_decoder.", f"{prefix}predictor.")
            for name in [n for n in state_dict if n.startswith(prefix) and not n.startswith(known)]:
                state_dict[known[0] + name[len(prefix) :]] = state_dict.pop(name)
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *args)

    def forward(self, features: dict[str, Tensor], mask: Tensor | None = None) -> dict[str, Any]:
        """Predict classes and masks; see :meth:`layers`."""
        return self.layers(features, mask)

    def layers(self, features: dict[str, Tensor], mask: Tensor | None = None) -> dict[str, Any]:
        """Predict classes and masks.

        Args:
            features: maps [N, C, H, W] by name.
            mask: passed to the transformer decoder.

        Returns:
            See :meth:`.MultiScaleMaskedTransformerDecoder.forward`.
        """
        mask_features, coarsest, levels = self.pixel_decoder.forward_features(features)  # type: ignore[operator]
        given = {
            "multi_scale_pixel_decoder": levels,
            "transformer_encoder": coarsest,
            "pixel_embedding": mask_features,
        }
        name = self.transformer_in_feature
        return self.predictor(given[name] if name in given else features[name], mask_features, mask)
