"""Backbones of detrex: ConvNeXt, and any network of timm or torchvision.

Reference: A ConvNet for the 2020s, https://arxiv.org/abs/2201.03545
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detectron2.modeling.backbone import Backbone
from detectron2.modeling.backbone.transformer import DropPath

from .neck import LayerNorm

__all__ = ["ConvNeXt", "TimmBackbone", "TorchvisionBackbone"]


class _Block(nn.Module):
    """Depthwise convolution of 7 x 7, norm, and two linear layers, added to the input."""

    def __init__(self, dim: int, drop_path: float, layer_scale: float) -> None:
        super().__init__()
        self.dwconv = nn.Conv2d(dim, dim, 7, padding=3, groups=dim)
        self.norm = LayerNorm(dim)
        self.pwconv1 = nn.Linear(dim, 4 * dim)
        self.pwconv2 = nn.Linear(4 * dim, dim)
        self.gamma = nn.Parameter(torch.full((dim,), layer_scale)) if layer_scale > 0 else None
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, C, H, W] to the same shape."""
        y = self.norm(self.dwconv(x).movedim(1, -1))
        y = self.pwconv2(F.gelu(self.pwconv1(y)))
        y = y if self.gamma is None else self.gamma * y
        return x + self.drop_path(y.movedim(-1, 1))


class ConvNeXt(Backbone):
    """ConvNeXt, with a norm after each stage that is returned.

    Args:
        in_chans: channels of the images.
        depths: blocks of each stage.
        dims: channels of each stage.
        drop_path_rate: stochastic depth of the last block; it rises from 0 at the first.
        layer_scale_init_value: first value of the scale of residual branches; 0 for no scale.
        out_indices: stages to return, as ``p0`` to ``p3``.
        frozen_stages: stages up to this one are not trained, the stem included; -1 for none.
    """

    def __init__(
        self,
        in_chans: int = 3,
        depths: Sequence[int] = (3, 3, 9, 3),
        dims: Sequence[int] = (96, 192, 384, 768),
        drop_path_rate: float = 0.0,
        layer_scale_init_value: float = 1e-6,
        out_indices: Sequence[int] = (0, 1, 2, 3),
        frozen_stages: int = -1,
    ) -> None:
        super().__init__()
        self.frozen_stages = frozen_stages
        self.out_indices = list(out_indices)
        self.downsample_layers = nn.ModuleList()
        for i, dim in enumerate(dims):
            if i == 0:
                steps = [nn.Conv2d(in_chans, dim, 4, stride=4), LayerNorm(dim, channel_last=False)]
            else:
                steps = [
                    LayerNorm(dims[i - 1], channel_last=False),
                    nn.Conv2d(dims[i - 1], dim, 2, stride=2),
                ]
            self.downsample_layers.append(nn.Sequential(*steps))
        rates = iter(torch.linspace(0, drop_path_rate, sum(depths), device="cpu").tolist())
        self.stages = nn.ModuleList(
            nn.Sequential(*(_Block(dim, next(rates), layer_scale_init_value) for _ in range(depth)))
            for depth, dim in zip(depths, dims)
        )
        for i in self.out_indices:
            self.add_module(f"norm{i}", LayerNorm(dims[i], channel_last=False))
        for m in self.modules():
            if isinstance(m, (nn.Conv2d, nn.Linear)):
                nn.init.trunc_normal_(m.weight, std=0.02)
                nn.init.zeros_(m.bias)  # type: ignore[arg-type]
        self._out_features = [f"p{i}" for i in self.out_indices]
        self._out_feature_channels = {f"p{i}": dims[i] for i in self.out_indices}
        self._out_feature_strides = {f"p{i}": 4 * 2**i for i in self.out_indices}
        for i in range(frozen_stages + 1):
            self.downsample_layers[i].requires_grad_(False)
            self.stages[i].requires_grad_(False)

    def forward_features(self, x: Tensor) -> dict[str, Tensor]:
        """Compute the maps of the chosen stages from images [N, C, H, W]."""
        outs: dict[str, Tensor] = {}
        for i, (reduce, stage) in enumerate(zip(self.downsample_layers, self.stages)):
            x = stage(reduce(x))
            if i in self.out_indices:
                outs[f"p{i}"] = self.get_submodule(f"norm{i}")(x)
        return outs

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Compute the maps of the chosen stages from images [N, C, H, W]."""
        return self.forward_features(x)


class TimmBackbone(Backbone):
    """A network of timm; :class:`detectron2.modeling.backbone.timm.TimmBackbone` is this package's own.

    Args:
        model_name: of the network in timm.
        features_only: must be True: return maps.
        pretrained: download and load timm's weights.
        checkpoint_path: file of weights, "" for none.
        in_channels: channels of the images.
        out_indices: stages to return, as ``p0``, ``p1`` and so on.
        norm_layer: class of the norms; None for the network's own.
    """

    def __init__(
        self,
        model_name: str,
        features_only: bool = True,
        pretrained: bool = False,
        checkpoint_path: str = "",
        in_channels: int = 3,
        out_indices: Sequence[int] = (0, 1, 2, 3),
        norm_layer: object = None,
    ) -> None:
        super().__init__()
        try:
            import timm
        except ImportError as e:
            raise ImportError("timm backbones need one more package: pip install 'detectron2[timm]'") from e
        options = {} if norm_layer is None else {"norm_layer": norm_layer}
        self.timm_model = timm.create_model(
            model_name,
            features_only=features_only,
            pretrained=pretrained,
            checkpoint_path=checkpoint_path,
            in_chans=in_channels,
            out_indices=tuple(out_indices),
            **options,
        )
        info = self.timm_model.feature_info
        self._out_features = [f"p{i}" for i in out_indices]
        self._out_feature_channels = dict(zip(self._out_features, info.channels()))
        self._out_feature_strides = dict(zip(self._out_features, info.reduction()))

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Compute the maps of the chosen stages from images [N, C, H, W]."""
        return dict(zip(self._out_features, self.timm_model(x)))


class TorchvisionBackbone(Backbone):
    """Maps inside a classification network of torchvision.

    Args:
        model_name: name of the function of ``torchvision.models``.
        pretrained: download and load torchvision's weights.
        return_nodes: from names of nodes of the network to names of maps.
        train_return_nodes: the same in training only, with ``eval_return_nodes`` in place of ``return_nodes``.
        eval_return_nodes: the same in evaluation only.
        tracer_kwargs: for torchvision's tracer.
        suppress_diff_warnings: do not warn where training and evaluation differ.
        kwargs: further arguments of the function.
    """

    def __init__(
        self,
        model_name: str = "resnet50",
        pretrained: bool = False,
        return_nodes: Mapping[str, str] = {
            "layer1": "res2",
            "layer2": "res3",
            "layer3": "res4",
            "layer4": "res5",
        },
        train_return_nodes: Mapping[str, str] | None = None,
        eval_return_nodes: Mapping[str, str] | None = None,
        tracer_kwargs: dict[str, Any] | None = None,
        suppress_diff_warnings: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__()
        from torchvision import models
        from torchvision.models.feature_extraction import create_feature_extractor

        network = models.get_model(model_name, weights="DEFAULT" if pretrained else None, **kwargs)
        separate = train_return_nodes is not None
        self.model = create_feature_extractor(
            network,
            None if separate else dict(return_nodes),
            dict(train_return_nodes) if train_return_nodes is not None else None,
            dict(eval_return_nodes) if eval_return_nodes is not None else None,
            tracer_kwargs,
            suppress_diff_warnings,
        )

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Compute the named maps from images [N, C, H, W]."""
        found: dict[str, Tensor] = self.model(x)
        return found
