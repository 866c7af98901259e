"""Predictor of surface embeddings."""

from torch import Tensor

from detectron2.config import CfgNode

from ...structures.cse import DensePoseEmbeddingPredictorOutput
from ..registries import DENSEPOSE_PREDICTOR_REGISTRY
from ..utils import initialize_module_params
from .upsampling import UpsamplingPredictor, upsampling_layer

__all__ = ["DensePoseEmbeddingPredictor", "initialize_module_params"]


@DENSEPOSE_PREDICTOR_REGISTRY.register()
class DensePoseEmbeddingPredictor(UpsamplingPredictor):
    """Predicts body and background, and the embedding of each pixel.

    Args:
        cfg: the whole config.
        input_channels: channels of the features.

    Reference: Continuous Surface Embeddings, https://arxiv.org/abs/2011.12438
    """

    output_class = DensePoseEmbeddingPredictorOutput

    def __init__(self, cfg: CfgNode, input_channels: int) -> None:
        super().__init__(cfg, input_channels)
        node = cfg.MODEL.ROI_DENSEPOSE_HEAD
        self.coarse_segm_lowres = upsampling_layer(cfg, input_channels, node.NUM_COARSE_SEGM_CHANNELS)
        self.embed_lowres = upsampling_layer(cfg, input_channels, node.CSE.EMBED_SIZE)
        initialize_module_params(self)

    def forward(self, head_outputs: Tensor) -> DensePoseEmbeddingPredictorOutput:
        """Predict maps for N instances.

        Args:
            head_outputs: [N, C, H, W] features.
        """
        return self.output_class(
            embedding=self.interp2d(self.embed_lowres(head_outputs)),
            coarse_segm=self.interp2d(self.coarse_segm_lowres(head_outputs)),
        )
