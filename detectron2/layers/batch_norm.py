"""Normalisation layers and their names in configs."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detectron2.utils.errors import BadValue, UnknownNameError
from detectron2.utils.reexports import passed_on

from ._sync_bn import sync_moments, world_size
from .wrappers import BatchNorm2d

__all__ = ["CycleBatchNormList", "FrozenBatchNorm2d", "LayerNorm", "NaiveSyncBatchNorm", "get_norm"]

__getattr__ = passed_on(__name__)


class FrozenBatchNorm2d(nn.Module):
    """Batch normalisation whose statistics and affine terms never change: ``x * scale + shift`` per channel.

    All four vectors are buffers with the names of ``BatchNorm2d``, so that its checkpoints load. Training and evaluation
    mode are the same, and only ``x`` gets gradients.

    Args:
        num_features: number of channels.
        eps: added to the variance under the root.
    """

    _version = 3
    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor

    def __init__(self, num_features: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.num_features = num_features
        self.eps = eps
        self.register_buffer("weight", torch.ones(num_features))
        self.register_buffer("bias", torch.zeros(num_features))
        self.register_buffer("running_mean", torch.zeros(num_features))
        # A new layer is the identity: running_var + eps is exactly 1.
        self.register_buffer("running_var", torch.ones(num_features) - eps)
        self.register_buffer("num_batches_tracked", None)  # only present if a trained norm was converted

    def affine(self) -> tuple[Tensor, Tensor]:
        """Return ``(scale, shift)``, each [C], so that the layer is ``x * scale + shift``."""
        scale = self.weight * (self.running_var + self.eps).rsqrt()
        return scale, self.bias - self.running_mean * scale

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, C, H, W] to the same shape and dtype."""
        if not x.requires_grad:
            # One fused kernel.
            return F.batch_norm(
                x, self.running_mean, self.running_var, self.weight, self.bias, training=False, eps=self.eps
            )
        scale, shift = (v.to(x.dtype).view(1, -1, 1, 1) for v in self.affine())
        return x * scale + shift

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, local_metadata: dict[str, Any], *args: Any
    ) -> None:
        if (local_metadata.get("version") or 0) < 2:
            # Caffe2 folded the statistics into weight and bias, so its files have none.
            state_dict.setdefault(prefix + "running_mean", torch.zeros_like(self.running_mean))
            state_dict.setdefault(prefix + "running_var", torch.ones_like(self.running_var))
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *args)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(num_features={self.num_features}, eps={self.eps})"

    @classmethod
    def convert_frozen_batchnorm(cls, module: nn.Module) -> nn.Module:
        """Replace every ``BatchNorm2d`` and ``SyncBatchNorm`` in ``module`` by an equal ``FrozenBatchNorm2d``.

        Args:
            module: changed in place, unless it is itself such a norm.

        Returns:
            ``module``, or the frozen norm if ``module`` was a norm.
        """

        def freeze(norm: nn.Module) -> nn.Module:
            frozen = cls(norm.num_features, norm.eps)  # type: ignore[arg-type]
            return _copy_norm(norm, frozen)

        return _replace_modules(module, (nn.BatchNorm2d, nn.SyncBatchNorm), freeze)

    @classmethod
    def convert_frozenbatchnorm2d_to_batchnorm2d(cls, module: nn.Module) -> nn.Module:
        """Replace every ``FrozenBatchNorm2d`` in ``module`` by an equal, trainable ``BatchNorm2d``.

        Args:
            module: changed in place, unless it is itself a frozen norm.

        Returns:
            ``module``, or the trainable norm if ``module`` was a frozen one.
        """

        def thaw(norm: nn.Module) -> nn.Module:
            return _copy_norm(norm, nn.BatchNorm2d(norm.num_features, norm.eps))  # type: ignore[arg-type]

        return _replace_modules(module, (cls,), thaw)


def _copy_norm(src: nn.Module, dst: nn.Module) -> nn.Module:
    """Copy values, mode and device of one norm to another; ``dst`` keeps its default for missing values."""
    with torch.no_grad():
        for name in ("weight", "bias", "running_mean", "running_var"):
            value = getattr(src, name, None)
            if value is not None:
                own = getattr(dst, name)
                own.data = value.detach().clone().to(own.dtype)
        tracked = getattr(src, "num_batches_tracked", None)
        if tracked is not None:
            dst.num_batches_tracked = tracked.detach().clone()
    return dst.train(src.training)


def _replace_modules(
    module: nn.Module, kinds: tuple[type[nn.Module], ...], make: Callable[[nn.Module], nn.Module]
) -> nn.Module:
    if isinstance(module, kinds):
        return make(module)
    for name, child in module.named_children():
        new = _replace_modules(child, kinds, make)
        if new is not child:
            setattr(module, name, new)
    return module


class NaiveSyncBatchNorm(BatchNorm2d):
    """Batch normalisation over the batches of all workers, by two plain all-reduces.

    It works on every device and backend, and, unlike ``torch.nn.SyncBatchNorm``, with different batch sizes on the
    workers. The running variance is the biased one.

    Args:
        *args: as in ``torch.nn.BatchNorm2d``.
        stats_mode: how the workers' statistics are averaged. "": equally, regardless of batch sizes (an empty batch is
            an error); "N": in proportion to the batch sizes, which may be 0.
        **kwargs: as in ``torch.nn.BatchNorm2d``.

    Reference: Rethinking "Batch" in BatchNorm, https://arxiv.org/abs/2105.07576
    """

    def __init__(self, *args: Any, stats_mode: str = "", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if stats_mode not in ("", "N"):
            raise BadValue(f'stats_mode must be "" or "N", got {stats_mode!r}')
        self._stats_mode = stats_mode

    def forward(self, input: Tensor) -> Tensor:
        """Map [N, C, H, W] to the same shape and dtype."""
        if not self.training or world_size() == 1:
            return super().forward(input)
        x = input.float() if input.element_size() < 4 else input
        mean, var, seen = sync_moments(x, weighted=self._stats_mode == "N")
        self._track(mean.detach(), var.detach(), seen)
        scale = (var + self.eps).rsqrt()
        if self.weight is not None:
            scale = scale * self.weight
        shift = -mean * scale
        if self.bias is not None:
            shift = shift + self.bias
        return (x * scale.view(1, -1, 1, 1) + shift.view(1, -1, 1, 1)).to(input.dtype)

    @torch.no_grad()
    def _track(self, mean: Tensor, var: Tensor, seen: Tensor) -> None:
        """Update the running statistics; ``seen`` is 1, or 0 if no worker has a sample and nothing changes."""
        if not self.track_running_stats or self.running_mean is None or self.running_var is None:
            return
        if self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(seen.to(self.num_batches_tracked.dtype))
        if self.momentum is None:
            step = seen / self.num_batches_tracked.clamp(min=1)  # type: ignore[union-attr]
        else:
            step = seen * self.momentum
        self.running_mean += step * (mean - self.running_mean)
        self.running_var += step * (var - self.running_var)


class CycleBatchNormList(nn.ModuleList):
    """Batch norms used in turn: call k uses statistics ``k % length``; the affine terms are shared.

    For heads that process the levels of a feature pyramid in a fixed order, with separate statistics for each level.

    Args:
        length: number of norms.
        bn_class: class of the norms, called as ``bn_class(affine=False, **kwargs)``.
        **kwargs: for ``bn_class``, including ``num_features``. ``affine`` (default True): whether to have shared
            ``weight`` and ``bias``.

    Reference: Rethinking "Batch" in BatchNorm, https://arxiv.org/abs/2105.07576
    """

    def __init__(
        self, length: int, bn_class: Callable[..., nn.Module] = nn.BatchNorm2d, **kwargs: Any
    ) -> None:
        self._affine = kwargs.pop("affine", True)
        super().__init__(bn_class(**kwargs, affine=False) for _ in range(length))
        if self._affine:
            channels = int(self[0].num_features)  # type: ignore[arg-type]
            self.weight = nn.Parameter(torch.ones(channels))
            self.bias = nn.Parameter(torch.zeros(channels))
        self._pos = 0

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, C, H, W] to the same shape, and advance to the next norm."""
        norm = self[self._pos]
        self._pos = (self._pos + 1) % len(self)
        x = norm(x)
        if not self._affine:
            return x
        return torch.addcmul(self.bias.view(1, -1, 1, 1), x, self.weight.view(1, -1, 1, 1))

    def extra_repr(self) -> str:
        """Return the shared terms, for ``repr``."""
        return f"affine={self._affine}"


class LayerNorm(nn.Module):
    """Layer normalisation over the channels of each pixel of an [N, C, H, W] map.

    Args:
        normalized_shape: number of channels.
        eps: added to the variance under the root.

    Reference: A ConvNet for the 2020s, https://arxiv.org/abs/2201.03545
    """

    def __init__(self, normalized_shape: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(normalized_shape))
        self.bias = nn.Parameter(torch.zeros(normalized_shape))
        self.eps = eps
        self.normalized_shape = (normalized_shape,)

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, C, H, W] to the same shape."""
        rows = F.layer_norm(x.movedim(1, -1), self.normalized_shape, self.weight, self.bias, self.eps)
        return rows.movedim(-1, 1)


def _group_norm(channels: int) -> nn.Module:
    return nn.GroupNorm(32, channels)


def _naive_sync_n(channels: int) -> nn.Module:
    return NaiveSyncBatchNorm(channels, stats_mode="N")


_NORMS: dict[str, Callable[[int], nn.Module]] = {
    "BN": BatchNorm2d,
    "SyncBN": nn.SyncBatchNorm,
    "FrozenBN": FrozenBatchNorm2d,
    "GN": _group_norm,
    "LN": LayerNorm,
    "nnSyncBN": nn.SyncBatchNorm,
    "naiveSyncBN": NaiveSyncBatchNorm,
    "naiveSyncBN_N": _naive_sync_n,
}


def get_norm(norm: str | Callable[[int], nn.Module] | None, out_channels: int) -> nn.Module | None:
    """Build a norm from its name in a config.

    Args:
        norm: "BN", "SyncBN", "FrozenBN", "GN" (32 groups), "LN" (over channels), "nnSyncBN" (= "SyncBN"),
            "naiveSyncBN", "naiveSyncBN_N"; a function from channel count to module; "" or None for no norm.
        out_channels: number of channels.

    Returns:
        The module, or None for no norm.

    Raises:
        KeyError: if the name is unknown.
    """
    if norm is None or norm == "":
        return None
    if isinstance(norm, str):
        if norm not in _NORMS:
            raise UnknownNameError(
                f"no norm is called {norm!r}; known: {', '.join(sorted(_NORMS))}, or '' for none"
            )
        return _NORMS[norm](out_channels)
    return norm(out_channels)
