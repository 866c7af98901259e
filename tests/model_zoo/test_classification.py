"""The engine trains torchvision's classifier from a Python config, on a small ImageNet-style folder."""

import runpy
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from detectron2 import model_zoo

TOOL = Path(__file__).resolve().parents[2] / "tools" / "lazyconfig_train_net.py"
CLASSES = {"n01440764": (220, 40, 40), "n01443537": (40, 40, 220)}  # a colour each: learnt in a few steps


@pytest.fixture
def imagenet(tmp_path: Path) -> Path:
    """A folder as torchvision's ImageNet reads it: train/, val/ with a folder per class, and meta.bin."""
    random = np.random.default_rng(0)
    for split, count in (("train", 8), ("val", 4)):
        for wnid, colour in CLASSES.items():
            folder = tmp_path / "imagenet" / split / wnid
            folder.mkdir(parents=True)
            for i in range(count):
                noise = random.integers(-30, 30, (40, 48, 3))
                Image.fromarray((np.array(colour) + noise).clip(0, 255).astype("uint8")).save(
                    folder / f"{i}.png"
                )
    torch.save(({w: (w,) for w in CLASSES}, []), tmp_path / "imagenet" / "meta.bin")
    return tmp_path / "imagenet"


@pytest.mark.slow
def test_config_trains_and_reports_accuracy(
    imagenet: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = 48
    overrides = [
        f"dataloader.train.dataset.root={imagenet}",
        "dataloader.train.num_workers=0",
        "dataloader.test.num_workers=0",
        "dataloader.train.batch_size=8",
        f"dataloader.train.dataset.transform.transforms.0.size={size}",
        f"dataloader.test.dataset.transform.transforms.0.size={size}",
        f"dataloader.test.dataset.transform.transforms.1.size={size}",
        "model.model={_target_: torchvision.models.resnet18, num_classes: 2}",
        "optimizer.lr=0.02",
        "train.max_iter=12",
        "train.eval_period=12",
        "train.checkpointer.period=100",
        "train.device=cpu",
        f"train.output_dir={tmp_path / 'out'}",
    ]
    config = model_zoo.get_config_file("Misc/torchvision_imagenet_R_50.py")
    monkeypatch.setattr(sys, "argv", [str(TOOL), "--config-file", config, *overrides])
    tool: dict[str, Any] = runpy.run_path(str(TOOL))
    args = tool["default_argument_parser"]().parse_args(sys.argv[1:])
    results = tool["main"](args)
    assert results["accuracy"] >= 75.0
    weights = tmp_path / "out" / "model_final.pth"
    assert weights.exists()
    args.eval_only = True
    args.opts = [*overrides, f"train.init_checkpoint={weights}"]
    assert tool["main"](args)["accuracy"] == results["accuracy"]
