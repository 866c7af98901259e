"""Flops of the modern models, and ``detectron2 analyze`` on their configs."""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from detectron2.cli import main
from detectron2.config import LazyConfig
from detectron2.engine.run_config import run_config
from detectron2.utils.analysis import FlopCountAnalysis, run_once

sys.path.insert(0, str(Path(__file__).parent))
from _modern_runs import ARCHITECTURES, DINO, tiny_detr, tiny_maskdino


def small(name: str) -> nn.Module:
    torch.manual_seed(0)
    return run_config(ARCHITECTURES[name][0]()).model()


@pytest.mark.slow
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_flops_are_those_of_the_layers(name: str) -> None:
    model, counted = small(name), Counter[str]()

    def count(module: nn.Module, given: tuple[Tensor, ...], result: Tensor) -> None:
        kind = "linear" if isinstance(module, nn.Linear) else "conv"
        counted[kind] += result.numel() * module.weight[0].numel()

    inputs = [{"image": torch.rand(3, 64, 64) * 255}]
    convs = [m for m in model.modules() if isinstance(m, (nn.Linear, nn.Conv2d))]
    handles = [m.register_forward_hook(count) for m in convs]
    run_once(model, inputs)
    for handle in handles:
        handle.remove()
    found = FlopCountAnalysis(model, inputs).by_operator()
    assert found["linear"] + found["matmul"] >= counted["linear"] > 0  # attention has projections of its own
    if name != "EVA-02":  # whose transposed convolutions have inputs and outputs of different sizes
        assert found["conv"] == counted["conv"]
    assert found["attention"] > 0


@pytest.mark.slow
def test_analyze(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    configs = {"dino": tmp_path / "dino.yaml", "maskdino": tmp_path / "maskdino.yaml"}
    LazyConfig.save(tiny_detr(DINO), str(configs["dino"]))
    configs["maskdino"].write_text(tiny_maskdino().dump())
    for name, path in configs.items():
        words = ["--device", "cpu", "--rounds", "1", "--input-size", "64", "64", "--json"]
        assert main(["analyze", str(path), *words]) == 0
        report = json.loads(capsys.readouterr().out)
        assert report["modules"][0]["flops"] > 0, name
        assert report["objects_found"] > 0, name
