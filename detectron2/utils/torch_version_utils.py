"""Compare the version of torch."""

from __future__ import annotations

import torch
from packaging import version

__all__ = ["min_torch_version"]


def min_torch_version(min_version: str) -> bool:
    """Return whether the installed torch is at least ``min_version``, such as ``"2.6"``.

    Builds from source (``2.15.0a0+git123``) count as their release (``2.15.0``).
    """
    return version.parse(version.parse(torch.__version__).base_version) >= version.parse(min_version)
