"""Which devices there are."""

import torch

from .errors import DeviceError

__all__ = ["best_device", "check_device"]


def best_device() -> str:
    """Return the fastest device of this machine: "cuda", "mps" or "cpu"."""
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def check_device(name: str, what: str = "the device") -> torch.device:
    """Return a device, if it is there.

    Args:
        name: such as ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ``"mps"``.
        what: says in errors where the name comes from.

    Raises:
        DeviceError: if torch does not know the name, or has no such device on this machine.
    """
    try:
        device = torch.device(name)
    except (RuntimeError, TypeError) as e:
        raise DeviceError(
            f"{what} is {name!r}, which torch does not know; expected cpu, cuda, cuda:0, mps …"
        ) from e
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if not count:
            raise DeviceError(f"{what} is {name!r}, but torch sees no CUDA device; use cpu")
        if device.index is not None and device.index >= count:
            raise DeviceError(f"{what} is {name!r}, but torch sees {count} CUDA devices, numbered from 0")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise DeviceError(f"{what} is {name!r}, but torch finds no Apple GPU; use cpu")
    return device
