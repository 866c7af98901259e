"""Loss of models that predict surface embeddings."""

from torch import Tensor

from detectron2.config import CfgNode
from detectron2.structures import Instances

from ...structures.cse import DensePoseEmbeddingPredictorOutput
from ..cse.embedder import Embedder
from ..registries import DENSEPOSE_LOSS_REGISTRY
from .cycle_pix2shape import PixToShapeCycleLoss
from .cycle_shape2shape import ShapeToShapeCycleLoss
from .embed import EmbeddingLoss
from .embed_utils import CseAnnotationsAccumulator
from .mask_or_segm import MaskOrSegmentationLoss
from .soft_embed import SoftEmbeddingLoss
from .utils import BilinearInterpolationHelper, extract_packed_annotations_from_matches
from .vertex_losses import VertexLoss

__all__ = ["DensePoseCseLoss"]


@DENSEPOSE_LOSS_REGISTRY.register()
class DensePoseCseLoss:
    """Losses on coarse segmentation (S) and on the embeddings of each mesh (E and its name); cycle losses if enabled.

    Args:
        cfg: the whole config; reads ``MODEL.ROI_DENSEPOSE_HEAD``.

    Reference: Continuous Surface Embeddings, https://arxiv.org/abs/2011.12438
    """

    _EMBED_LOSSES: dict[str, type[VertexLoss]] = {
        "EmbeddingLoss": EmbeddingLoss,
        "SoftEmbeddingLoss": SoftEmbeddingLoss,
    }

    def __init__(self, cfg: CfgNode) -> None:
        node = cfg.MODEL.ROI_DENSEPOSE_HEAD
        self.w_segm = node.INDEX_WEIGHTS
        self.w_embed = node.CSE.EMBED_LOSS_WEIGHT
        self.segm_loss = MaskOrSegmentationLoss(cfg)
        self.embed_loss = DensePoseCseLoss.create_embed_loss(cfg)
        self.do_shape2shape = node.CSE.SHAPE_TO_SHAPE_CYCLE_LOSS.ENABLED
        self.do_pix2shape = node.CSE.PIX_TO_SHAPE_CYCLE_LOSS.ENABLED
        self.w_shape2shape = node.CSE.SHAPE_TO_SHAPE_CYCLE_LOSS.WEIGHT
        self.w_pix2shape = node.CSE.PIX_TO_SHAPE_CYCLE_LOSS.WEIGHT
        if self.do_shape2shape:
            self.shape2shape_loss = ShapeToShapeCycleLoss(cfg)
        if self.do_pix2shape:
            self.pix2shape_loss = PixToShapeCycleLoss(cfg)

    @classmethod
    def create_embed_loss(cls, cfg: CfgNode) -> VertexLoss:
        """Build the loss named by ``MODEL.ROI_DENSEPOSE_HEAD.CSE.EMBED_LOSS_NAME``.

        Args:
            cfg: the whole config.

        Raises:
            ValueError: the name is unknown.
        """
        name = cfg.MODEL.ROI_DENSEPOSE_HEAD.CSE.EMBED_LOSS_NAME
        if name not in cls._EMBED_LOSSES:
            raise ValueError(f"EMBED_LOSS_NAME must be one of {sorted(cls._EMBED_LOSSES)}, got {name!r}")
        return cls._EMBED_LOSSES[name](cfg)

    def __call__(
        self,
        proposals_with_gt: list[Instances],
        densepose_predictor_outputs: DensePoseEmbeddingPredictorOutput,
        embedder: Embedder,
    ) -> dict[str, Tensor]:
        """Compute the losses; all are 0 without annotations.

        Args:
            proposals_with_gt: proposals of each image with their ground truth.
            densepose_predictor_outputs: outputs for all proposals.
            embedder: vertex embeddings.

        Returns:
            ``loss_densepose_S``, ``loss_densepose_E<mesh name>`` for each mesh, and ``loss_shape2shape`` and
            ``loss_pix2shape`` if they are enabled.
        """
        output = densepose_predictor_outputs
        packed = extract_packed_annotations_from_matches(proposals_with_gt, CseAnnotationsAccumulator())
        if packed is None:
            return self.produce_fake_losses(output, embedder)
        height, width = output.embedding.shape[2:]
        interpolator = BilinearInterpolationHelper.from_matches(packed, (height, width))
        embed = self.embed_loss(proposals_with_gt, output, packed, interpolator, embedder)
        losses = {
            "loss_densepose_S": self.segm_loss(proposals_with_gt, output, packed) * self.w_segm,
            **{f"loss_densepose_E{name}": loss * self.w_embed for name, loss in embed.items()},
        }
        if self.do_shape2shape:
            losses["loss_shape2shape"] = self.shape2shape_loss(embedder) * self.w_shape2shape
        if self.do_pix2shape:
            cycle = self.pix2shape_loss(proposals_with_gt, output, packed, embedder)
            losses["loss_pix2shape"] = cycle * self.w_pix2shape
        return losses

    def produce_fake_losses(
        self, densepose_predictor_outputs: DensePoseEmbeddingPredictorOutput, embedder: Embedder
    ) -> dict[str, Tensor]:
        """Return losses of 0, attached to predictions and embeddings.

        Args:
            densepose_predictor_outputs: outputs for all proposals.
            embedder: vertex embeddings.
        """
        output = densepose_predictor_outputs
        losses = {"loss_densepose_S": self.segm_loss.fake_value(output)}
        for name, loss in self.embed_loss.fake_values(output, embedder).items():
            losses[f"loss_densepose_E{name}"] = loss
        if self.do_shape2shape:
            losses["loss_shape2shape"] = self.shape2shape_loss.fake_value(embedder)
        if self.do_pix2shape:
            losses["loss_pix2shape"] = self.pix2shape_loss.fake_value(output, embedder)
        return losses
