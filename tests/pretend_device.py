"""A make-believe accelerator: tensors that say they lie on it, compute on the CPU, and count what would wait.

``with PretendDevice() as device:`` moves a model there by ``device.put(model)`` and counts in ``device.waits`` what makes
the host wait for an accelerator's queue (reading a value, copying to the host, a result whose size depends on values), and
in ``device.operators`` what would be launched. An operator that mixes tensors of the device with tensors of the host raises,
as on CUDA, except for scalars and host indices.

The device is called "meta", since torch takes no device names of our own.
"""

from __future__ import annotations

import traceback
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

PACKAGE = str(Path(__file__).resolve().parents[1] / "detectron2")
# The size of the result depends on values, so that the host must read how many there are.
DYNAMIC = {
    "aten::nonzero", "aten::masked_select", "aten::_unique2", "aten::unique_dim", "aten::unique_consecutive",
    "aten::bincount", "torchvision::nms",
}  # fmt: skip
READS = {"aten::_local_scalar_dense", "aten::equal", "aten::is_nonzero"}
# Copies between devices, and indices, which CUDA takes from the host.
CROSSING = {
    "aten::_to_copy",
    "aten::copy_",
    "aten::index",
    "aten::index_put",
    "aten::index_put_",
    "aten::_index_put_impl_",
}
# No kernel: these change how memory is seen.
FREE = {
    "aten::view", "aten::_unsafe_view", "aten::reshape", "aten::expand", "aten::permute", "aten::transpose", "aten::t",
    "aten::slice", "aten::select", "aten::unsqueeze", "aten::squeeze", "aten::split", "aten::split_with_sizes",
    "aten::unbind", "aten::detach", "aten::alias", "aten::as_strided", "aten::empty", "aten::empty_like",
    "aten::empty_strided", "aten::new_empty", "aten::unfold", "aten::diagonal", "aten::_reshape_alias",
    "aten::is_same_size", "aten::lift_fresh", "aten::view_as_real", "aten::view_as_complex", "aten::new_empty_strided",
}  # fmt: skip


class DeviceTensor(Tensor):
    """A tensor of the device; ``inner`` has its values on the CPU."""

    inner: Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, inner: Tensor) -> DeviceTensor:
        return Tensor._make_wrapper_subclass(  # type: ignore[attr-defined, no-any-return]
            cls,
            inner.shape,
            dtype=inner.dtype,
            device="meta",
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
        )

    def __init__(self, inner: Tensor) -> None:
        self.inner = inner

    def tolist(self) -> Any:  # type: ignore[override]
        return self.cpu().tolist()

    def __repr__(self) -> str:  # type: ignore[override]
        return f"DeviceTensor({self.inner!r})"

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise RuntimeError(f"{func} of a tensor of the pretend device, outside its `with` block")


def _is_device(device: Any) -> bool:
    return device is not None and torch.device(device).type == "meta"


class _FromData(TorchFunctionMode):
    """``torch.tensor(data, device="meta")`` and ``x[[0, 2]]`` leave the data out; put them on the device."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func in (torch.tensor, torch.as_tensor) and _is_device(kwargs.get("device")):
            del kwargs["device"]
            made = func(*args, **kwargs)
            return made if isinstance(made, DeviceTensor) else DeviceTensor(made)
        if func is Tensor.new_tensor and isinstance(args[0], DeviceTensor) and "device" not in kwargs:
            return DeviceTensor(torch.tensor(*args[1:], **{"dtype": args[0].dtype, **kwargs}))
        if func is Tensor.__getitem__ and isinstance(args[0], DeviceTensor) and isinstance(args[1], tuple):
            listed = (DeviceTensor(torch.tensor(i)) if isinstance(i, list) else i for i in args[1])
            args = (args[0], tuple(listed))
        return func(*args, **kwargs)


class PretendDevice(TorchDispatchMode):
    """Counts waits and operators while it is entered; see the module."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: Counter[str] = Counter()
        self.places: Counter[str] = Counter()
        self.dtypes: set[torch.dtype] = set()  # of results
        self.operators = 0

    def put(self, thing: Any) -> Any:
        """Return a model, or anything of tensors in lists and dicts, on the device."""
        if isinstance(thing, nn.Module):
            for module in thing.modules():
                for name, parameter in module._parameters.items():
                    if parameter is not None:
                        there = nn.Parameter(DeviceTensor(parameter.detach()), parameter.requires_grad)
                        module._parameters[name] = there
                for name, buffer in module._buffers.items():
                    if buffer is not None:
                        module._buffers[name] = DeviceTensor(buffer.detach())
            return thing
        return tree_map(lambda t: DeviceTensor(t) if isinstance(t, Tensor) else t, thing)

    def reset(self) -> None:
        """Count from zero."""
        self.waits.clear()
        self.places.clear()
        self.operators = 0

    def _wait(self, name: str) -> None:
        self.waits[name] += 1
        ours = [f for f in traceback.extract_stack() if f.filename.startswith(PACKAGE)]
        if ours:
            self.places[f"{Path(ours[-1].filename).relative_to(PACKAGE)}:{ours[-1].lineno} {name}"] += 1

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        name = func._schema.name
        tensors: list[Tensor] = []
        tree_map(lambda t: tensors.append(t) if isinstance(t, Tensor) else None, (args, kwargs))
        there = [t for t in tensors if isinstance(t, DeviceTensor)]
        made_there = _is_device(kwargs.get("device"))
        to_host = bool(there) and kwargs.get("device") is not None and not made_there
        if not there and not made_there:
            return func(*args, **kwargs)
        if made_there:
            kwargs["device"] = "cpu"
        self._check(name, func, tensors)
        host_result = to_host or (name == "aten::copy_" and not isinstance(args[0], DeviceTensor))
        if host_result or name in DYNAMIC or name in READS or self._reads_a_mask(name, args):
            self._wait(name)
        elif name not in FREE:
            self.operators += 1
        inner_args, inner_kwargs = tree_map(
            lambda t: t.inner if isinstance(t, DeviceTensor) else t, (args, kwargs)
        )
        out = func(*inner_args, **inner_kwargs)
        if host_result:
            return args[0] if name == "aten::copy_" else out
        return self._wrap(func, out, args, kwargs, tensors)

    def _wrap(self, func: Any, out: Any, args: Any, kwargs: Any, tensors: list[Tensor]) -> Any:
        """Return results as tensors of the device; what was changed in place stays the same object."""
        same = {id(t.inner): t for t in tensors if isinstance(t, DeviceTensor)}

        def wrapped(t: Any) -> Any:
            if not isinstance(t, Tensor):
                return t
            self.dtypes.add(t.dtype)
            known = same.get(id(t))
            if known is not None and known.shape == t.shape:
                return known
            return DeviceTensor(t)

        return tree_map(wrapped, out)

    @staticmethod
    def _check(name: str, func: Any, tensors: list[Tensor]) -> None:
        mixed = [t for t in tensors if not isinstance(t, DeviceTensor) and t.dim() > 0]
        if mixed and len(mixed) < len(tensors) and name not in CROSSING:
            shapes = [tuple(t.shape) for t in mixed]
            raise RuntimeError(f"{func} got tensors of the host, {shapes}, beside tensors of the device")

    @staticmethod
    def _reads_a_mask(name: str, args: Any) -> bool:
        """Tell whether indexing by a mask must know how many entries it has."""
        if name not in ("aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_"):
            return name == "aten::repeat_interleave" and len(args) == 1
        masks = [i for i in args[1] if i is not None and i.dtype in (torch.bool, torch.uint8)]
        one_value = name != "aten::index" and args[2].numel() == 1  # that is masked_fill
        return bool(masks) and not one_value

    def __enter__(self) -> PretendDevice:
        init, enabled = torch.autocast.__init__, torch.is_autocast_enabled

        def real(device_type: str) -> str:
            return "cpu" if device_type == "meta" else device_type

        def init_there(autocast: Any, device_type: str, *args: Any, **kwargs: Any) -> None:
            init(autocast, real(device_type), *args, **kwargs)

        self._patches = ExitStack()
        self._patches.enter_context(mock.patch.object(torch.autocast, "__init__", init_there))
        self._patches.enter_context(
            mock.patch.object(torch, "is_autocast_enabled", lambda *kind: enabled(*map(real, kind)))
        )
        self._patches.enter_context(_FromData())
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self._patches.close()
