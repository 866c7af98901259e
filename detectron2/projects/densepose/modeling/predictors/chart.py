"""Predictor of charts."""

from torch import Tensor

from detectron2.config import CfgNode

from ...structures.chart import DensePoseChartPredictorOutput
from ..registries import DENSEPOSE_PREDICTOR_REGISTRY
from ..utils import initialize_module_params
from .upsampling import UpsamplingPredictor, upsampling_layer

__all__ = ["DensePoseChartPredictor", "initialize_module_params"]


@DENSEPOSE_PREDICTOR_REGISTRY.register()
class DensePoseChartPredictor(UpsamplingPredictor):
    """Predicts body parts, charts and coordinates in them, each with its own transposed convolution.

    Args:
        cfg: the whole config.
        input_channels: channels of the features.

    Reference: DensePose: Dense Human Pose Estimation In The Wild, https://arxiv.org/abs/1802.00434
    """

    output_class = DensePoseChartPredictorOutput

    def __init__(self, cfg: CfgNode, input_channels: int) -> None:
        super().__init__(cfg, input_channels)
        node = cfg.MODEL.ROI_DENSEPOSE_HEAD
        charts = node.NUM_PATCHES + 1  # plus background
        self.ann_index_lowres = upsampling_layer(cfg, input_channels, node.NUM_COARSE_SEGM_CHANNELS)
        self.index_uv_lowres = upsampling_layer(cfg, input_channels, charts)
        self.u_lowres = upsampling_layer(cfg, input_channels, charts)
        self.v_lowres = upsampling_layer(cfg, input_channels, charts)
        initialize_module_params(self)

    def forward(self, head_outputs: Tensor) -> DensePoseChartPredictorOutput:
        """Predict maps for N instances.

        Args:
            head_outputs: [N, C, H, W] features.
        """
        return self.output_class(
            coarse_segm=self.interp2d(self.ann_index_lowres(head_outputs)),
            fine_segm=self.interp2d(self.index_uv_lowres(head_outputs)),
            u=self.interp2d(self.u_lowres(head_outputs)),
            v=self.interp2d(self.v_lowres(head_outputs)),
        )
