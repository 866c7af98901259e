"""The formats that models are exported to, by the names of the command line."""

from __future__ import annotations

import zipfile
from pathlib import Path

from detectron2.utils.errors import BadValue, NoSuchFile
from detectron2.utils.suggest import not_there

from .aoti import Aoti
from .base import Format, Graph, Metadata, Runner
from .half import with_half_backbone
from .onnx import Onnx
from .openvino import OpenVino
from .pt2 import Pt2
from .torchscript import TorchScript

__all__ = ["FORMATS", "Format", "Graph", "Metadata", "Runner", "format_of", "with_half_backbone"]

FORMATS: dict[str, Format] = {f.name: f for f in (Pt2(), Onnx(), OpenVino(), TorchScript(), Aoti())}


def format_of(path: Path) -> Format:
    """Return the format of a file.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is of no format known here.
    """
    if not path.is_file():
        raise NoSuchFile(not_there(path))
    if path.suffix == ".pt2":
        return FORMATS["aoti" if _is_compiled(path) else "pt2"]
    for kind in FORMATS.values():
        if path.name.endswith(kind.suffix):
            return kind
    endings = ", ".join(sorted(kind.suffix for kind in FORMATS.values()))
    raise BadValue(f"{path} is not an exported model; those are named {endings}")


def _is_compiled(path: Path) -> bool:
    """Say whether an archive of PyTorch holds machine code."""
    try:
        with zipfile.ZipFile(path) as archive:
            return any("aotinductor" in name for name in archive.namelist())
    except zipfile.BadZipFile as error:
        raise BadValue(f"{path} is damaged: {error}") from error
