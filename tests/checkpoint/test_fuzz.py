"""Damaged checkpoints: an error of input that names the file, and a training that goes on from the one before."""

import io
import pickle
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from detectron2.checkpoint import DetectionCheckpointer, save_safetensors
from detectron2.cli.errors import INPUT_ERRORS

from ..mutation import ODD, mutate_bytes, mutate_tree, named

ODD_PARTS = (
    *ODD,
    torch.zeros(3),
    torch.zeros(2, 2, dtype=torch.int8),
    torch.empty(0),
    np.zeros(2),
    b"bytes",
    (1,),
)


def net(value: float = 0.5) -> torch.nn.Linear:
    made = torch.nn.Linear(2, 2)
    torch.nn.init.constant_(made.weight, value)
    return made


def saver(model: torch.nn.Module, folder: Path) -> DetectionCheckpointer:
    return DetectionCheckpointer(
        model, str(folder), optimizer=torch.optim.SGD(model.parameters(), lr=1, momentum=0.5)
    )


def content(form: str) -> dict[str, Any]:
    model = net(3)
    optimizer = torch.optim.SGD(model.parameters(), lr=1, momentum=0.5)
    weights: dict[str, Any] = dict(model.state_dict())
    if form == "pkl":
        arrays = {k: v.numpy() for k, v in weights.items()}
        return {"model": arrays, "__author__": "us"}
    return {"model": weights, "optimizer": optimizer.state_dict(), "iteration": 3}


def written(tree: Any, form: str) -> bytes:
    if form == "pkl":
        return pickle.dumps(tree)
    buffer = io.BytesIO()
    torch.save(tree, buffer, _use_new_zipfile_serialization=form == "zip")
    return buffer.getvalue()


def damaged(rng: random.Random, folder: Path) -> tuple[str, bytes]:
    """The ending of a file, and its bytes."""
    form = rng.choice(["zip", "legacy", "pkl", "safetensors"])
    if form == "safetensors":
        path = folder / "whole.safetensors"
        save_safetensors(net(3).state_dict(), path)
        return ".safetensors", mutate_bytes(path.read_bytes(), rng)
    tree, ending = content(form), ".pkl" if form == "pkl" else ".pth"
    if rng.random() < 0.5:
        return ending, written(mutate_tree(tree, rng, ODD_PARTS), form)
    return ending, mutate_bytes(written(tree, form), rng)


def check_many(folder: Path, count: int, seed: int) -> None:
    pytest.importorskip("safetensors")
    rng = random.Random(seed)
    run = folder / "run"
    for i in (1, 2):
        saver(net(i), run).save(f"model_{i:07d}", iteration=i)
    refused = 0
    for number in range(count):
        ending, data = damaged(rng, folder)
        path = folder / f"case_{number}{ending}"
        path.write_bytes(data)
        try:
            DetectionCheckpointer(net()).load(str(path))
        except INPUT_ERRORS as error:
            refused += 1
            named(path, error)
        path.unlink()
        if ending == ".pth":
            (run / "model_0000003.pth").write_bytes(data)
            (run / "last_checkpoint").write_text("model_0000003.pth")
            model = net()
            rest = saver(model, run).resume_or_load("", resume=True)
            # From the damaged file, if what was changed in it does no harm, or from the one before; never from noise.
            assert model.weight[0, 0].item() == 2.0 or rest.get("iteration") != 2, (seed, number)
    assert count * 0.1 < refused


def test_damaged_checkpoints_are_named_and_passed_over(tmp_path: Path) -> None:
    check_many(tmp_path, 100, 0)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_many_damaged_checkpoints_are_named_and_passed_over(tmp_path: Path, seed: int) -> None:
    check_many(tmp_path, 1000, seed)
