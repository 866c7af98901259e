"""``detectron2 doctor``: check this environment, and say what is missing and how to fix it."""

import argparse
import json
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path

from rich.table import Table
from rich.text import Text

from ..console import console

__all__ = ["Finding", "examine", "run"]

OK, NOTE, BAD = "ok", "note", "bad"

# extra: (distributions, purpose)
EXTRAS = {
    "viz": (
        ("matplotlib", "opencv-python-headless"),
        "Matplotlib figures, video, rotation by arbitrary angles",
    ),
    "tensorboard": (("tensorboard",), "curves in TensorBoard"),
    "wandb": (("wandb",), "logging to Weights & Biases"),
    "mlflow": (("mlflow-skinny",), "logging to MLflow"),
    "safetensors": (("safetensors",), "weights as .safetensors"),
    "timm": (("timm",), "backbones from timm"),
    "tracking": (("scipy",), "Hungarian trackers"),
    "transformers": (("scipy",), "training of Mask2Former and other detection transformers"),
    "remote": (("fsspec",), "files on s3://, gs:// and other stores"),
}
STAND_INS = {
    "opencv-python-headless": ("opencv-python", "opencv-contrib-python"),
    "mlflow-skinny": ("mlflow",),
}


@dataclass(frozen=True)
class Finding:
    """Result of one check: its state (ok, note, bad), what was found, and how to fix it."""

    name: str
    state: str
    seen: str
    todo: str = ""


def run(args: argparse.Namespace) -> int:
    """Print the findings; return 1 if something must be fixed."""
    findings = list(examine())
    if args.json:
        print(json.dumps([asdict(f) for f in findings], indent=2))
    else:
        _print(findings)
    return int(any(f.state == BAD for f in findings))


def examine() -> Iterator[Finding]:
    """Check everything that training and inference need."""
    version = platform.python_version()
    yield Finding(
        "Python", OK if sys.version_info >= (3, 10) else BAD, f"{version} on {platform.platform()}", ""
    )
    for check in (_torch, _operators, _devices, _packages, _rival, _disk, _cache):
        try:
            yield from check()
        except Exception as error:  # a failing check must not hide the others
            yield Finding(
                _title(check),
                BAD,
                f"{type(error).__name__}: {error}",
                "reinstall it: pip install --force-reinstall",
            )


def _title(check: Callable[..., object]) -> str:
    return check.__name__.strip("_")


def _torch() -> Iterator[Finding]:
    import torch
    import torchvision

    yield Finding("torch", OK, f"{torch.__version__}, {torch.get_num_threads()} threads")
    yield Finding("torchvision", OK, torchvision.__version__)


def _operators() -> Iterator[Finding]:
    """Run operators of torchvision's compiled library, which fail if it does not match torch."""
    import torch
    from torchvision import ops

    boxes = torch.tensor([[0.0, 0.0, 4.0, 4.0], [0.0, 0.0, 4.0, 3.9]])
    try:
        kept = ops.nms(boxes, torch.tensor([0.9, 0.8]), 0.5)
        ops.roi_align(torch.ones(1, 1, 8, 8), [boxes], 2)
        state, seen = (
            (OK, "nms and roi_align work") if kept.tolist() == [0] else (BAD, f"nms kept {kept.tolist()}")
        )
    except (RuntimeError, NotImplementedError) as error:
        state, seen = BAD, str(error).splitlines()[0]
    todo = (
        ""
        if state == OK
        else "install the torchvision for this torch: pip install --upgrade torch torchvision"
    )
    yield Finding("operators", state, seen, todo)


def _devices() -> Iterator[Finding]:
    import torch

    if torch.cuda.is_available():
        for i in range(torch.cuda.device_count()):
            p = torch.cuda.get_device_properties(i)
            yield Finding(f"cuda:{i}", OK, f"{p.name}, {p.total_memory / 2**30:.0f} GiB")
    elif torch.backends.mps.is_available():
        yield Finding("mps", OK, "Apple GPU")
    else:
        built = (
            f"torch was built for CUDA {torch.version.cuda}, but finds no GPU"
            if torch.version.cuda
            else "no GPU"
        )
        todo = (
            "fine for small models; with a GPU check `nvidia-smi` and the driver"
            if torch.version.cuda
            else ""
        )
        yield Finding("GPU", NOTE, built, todo)


def _packages() -> Iterator[Finding]:
    for name in ("numpy", "Pillow", "pycocotools", "hotcoco", "omegaconf", "rich"):
        version = _version(name)
        yield Finding(
            name, OK if version else BAD, version or "missing", "" if version else f"pip install {name}"
        )
    for extra, (names, purpose) in EXTRAS.items():
        missing = [n for n in names if not any(_version(m) for m in (n, *STAND_INS.get(n, ())))]
        if missing:
            yield Finding(
                f"[{extra}]",
                NOTE,
                f"without {', '.join(missing)}",
                f"for {purpose}: pip install 'detectron2[{extra}]'",
            )
        else:
            yield Finding(f"[{extra}]", OK, purpose)


def _rival() -> Iterator[Finding]:
    """Check that the imported detectron2 is the installed one."""
    import detectron2

    here = Path(detectron2.__file__).resolve().parent
    installed = _version("detectron2")
    if installed is None:
        yield Finding(
            "detectron2", NOTE, f"{detectron2.__version__} from {here}, not installed", "pip install -e ."
        )
    elif installed != detectron2.__version__:
        todo = "another copy shadows it: pip uninstall detectron2, then install again"
        yield Finding(
            "detectron2", BAD, f"{detectron2.__version__} from {here}, but {installed} is installed", todo
        )
    else:
        yield Finding("detectron2", OK, f"{detectron2.__version__} from {here}")


def _disk() -> Iterator[Finding]:
    free = shutil.disk_usage(".").free / 2**30
    state = OK if free > 5 else NOTE
    yield Finding(
        "disk",
        state,
        f"{free:.0f} GiB free here",
        "" if state == OK else "a run of a large model writes gigabytes",
    )
    shared = Path("/dev/shm")
    if shared.is_dir() and (size := shutil.disk_usage(shared).total / 2**30) < 1:
        todo = "loader processes may die; with Docker add --shm-size=8g, or use --workers 0"
        yield Finding("shared memory", NOTE, f"{size:.2f} GiB", todo)


def _cache() -> Iterator[Finding]:
    """Check that downloaded weights can be cached."""
    root = Path(os.environ.get("FVCORE_CACHE", Path.home() / ".torch")).expanduser()
    place = next(p for p in (root, *root.parents) if p.exists())
    try:
        with tempfile.TemporaryFile(dir=place):
            yield Finding("cache", OK, str(root))
    except OSError as error:
        yield Finding(
            "cache", BAD, f"{place} cannot be written: {error}", "set FVCORE_CACHE to a folder that can"
        )


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _print(findings: list[Finding]) -> None:
    table = Table(box=None, show_header=False, pad_edge=False)
    colours = {OK: "green", NOTE: "yellow", BAD: "red"}
    for f in findings:
        text = f.seen if not f.todo else f"{f.seen}\n→ {f.todo}"
        table.add_row(Text(f.state, colours[f.state]), f.name, text)
    console().print(table)
    bad = [f.name for f in findings if f.state == BAD]
    print("Everything that is needed is available." if not bad else f"To fix: {', '.join(bad)}.")
