"""Describe this machine in a table for bug reports."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import platform
import sys

import torch

import detectron2

from .tables import format_table

__all__ = ["collect_env_info", "collect_facts", "operator_paths"]

# Packages that affect results or speed, with what they are needed for.
_PACKAGES = {
    "torchvision": "required",
    "numpy": "required",
    "Pillow": "required",
    "pycocotools": "required",
    "hotcoco": "required",
    "omegaconf": "required",
    "opencv-python-headless": "faster drawing, video",
    "matplotlib": "drawing",
    "scipy": "tracking by assignment",
    "tensorboard": "TensorBoard logs",
    "safetensors": ".safetensors files",
    "timm": "timm backbones",
    "fsspec": "remote files",
}


def _version(distribution: str) -> str | None:
    names = [distribution]
    if distribution.startswith("opencv"):
        names += ["opencv-python", "opencv-contrib-python", "opencv-contrib-python-headless"]
    for name in names:
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return None


def operator_paths() -> list[tuple[str, str]]:
    """Return the implementation of each special operator; none needs a compiler."""
    try:
        import torchvision

        del torchvision
        fast = hasattr(torch.ops.torchvision, "nms") and hasattr(torch.ops.torchvision, "roi_align")
    except (ImportError, RuntimeError):
        fast = False
    kernels = "torchvision's compiled operator" if fast else "missing: torchvision does not fit this torch"
    return [
        ("ROIAlign, NMS, deformable convolution", kernels),
        ("rotated IoU, NMS, ROIAlign", "PyTorch tensor code of this package"),
        ("mask pasting, matching, losses", "PyTorch tensor code of this package"),
        ("COCO evaluation", f"hotcoco {_version('hotcoco')}" if _version("hotcoco") else "pycocotools"),
        ("compiled extension of detectron2", "none: the package is pure Python"),
    ]


def _cuda_facts() -> list[tuple[str, str]]:
    if not torch.cuda.is_available():
        built = torch.version.cuda or torch.version.hip
        why = "torch was built without it" if built is None else "no usable device or driver"
        return [("CUDA", f"not available ({why})")]
    facts = [("CUDA of torch", str(torch.version.cuda or torch.version.hip))]
    cudnn = torch.backends.cudnn.version()
    facts.append(("cuDNN", str(cudnn) if cudnn else "none"))
    for i in range(torch.cuda.device_count()):
        p = torch.cuda.get_device_properties(i)
        facts.append((f"GPU {i}", f"{p.name} (arch {p.major}.{p.minor}, {p.total_memory / 2**30:.1f} GiB)"))
    return facts


def default_device() -> tuple[str, str]:
    """Return the best device of this machine, and advice on its use."""
    if torch.cuda.is_available():
        return "cuda", "set MODEL.DEVICE cuda (the default)"
    if torch.backends.mps.is_available():
        return "mps", "set MODEL.DEVICE mps"
    return "cpu", "set MODEL.DEVICE cpu; training large models will be slow"


def collect_facts() -> list[tuple[str, str]]:
    """Return the names and values that :func:`collect_env_info` formats."""
    device, advice = default_device()
    facts = [
        ("detectron2", f"{detectron2.__version__} @ {os.path.dirname(detectron2.__file__)}"),
        ("Python", sys.version.replace("\n", " ")),
        ("platform", platform.platform()),
        ("PyTorch", f"{torch.__version__} @ {os.path.dirname(torch.__file__)}"),
        ("best device", f"{device} ({advice})"),
        *_cuda_facts(),
        ("CPU threads", f"{torch.get_num_threads()} of {os.cpu_count()} cores"),
    ]
    for name, use in _PACKAGES.items():
        version = _version(name)
        facts.append((name, version if version else f"not installed ({use})"))
    for name in sorted(os.environ):
        if name.startswith(("DETECTRON2_", "FVCORE_", "CUDA_VISIBLE", "OMP_NUM", "NCCL_")):
            facts.append((name, os.environ[name]))
    return facts + operator_paths()


def collect_env_info() -> str:
    """Return the environment as text: versions, devices, optional packages and the operators in use."""
    return format_table(collect_facts(), ["what", "here"])


if __name__ == "__main__":
    print(collect_env_info())
