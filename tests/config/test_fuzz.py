"""Damaged configs: an error of input that names the file, nothing else."""

import random
from pathlib import Path

import pytest
import yaml

from detectron2.cli.errors import INPUT_ERRORS
from detectron2.config import get_cfg
from detectron2.engine.run_config import load_run_config

from ..mutation import mutate_bytes, mutate_tree, named

YACS = {
    "VERSION": 2,
    "MODEL": {
        "META_ARCHITECTURE": "GeneralizedRCNN",
        "WEIGHTS": "",
        "MASK_ON": True,
        "PIXEL_MEAN": [1.0, 2.0, 3.0],
        "ANCHOR_GENERATOR": {"SIZES": [[16], [32]]},
        "ROI_HEADS": {"NAME": "StandardROIHeads", "IN_FEATURES": ["p2", "p3"]},
    },
    "INPUT": {"MIN_SIZE_TRAIN": [64], "CROP": {"ENABLED": True, "SIZE": [0.5, 0.5]}},
    "SOLVER": {"STEPS": [3, 4], "BASE_LR": 0.1, "MAX_ITER": "2ep"},
    "DATASETS": {"TRAIN": ["a"]},
}
LAZY = {
    "model": {"_target_": "torch.nn.Linear", "in_features": 2, "out_features": "${model.in_features}"},
    "train": {"max_iter": 4, "device": "cpu", "amp": {"enabled": False}, "output_dir": "x"},
    "optimizer": {"_target_": "torch.optim.SGD", "lr": 0.1, "params": {"base": [1, {"a": 2}]}},
}


def damaged(rng: random.Random) -> bytes:
    tree = rng.choice([YACS, LAZY])
    if rng.random() < 0.5:
        return yaml.safe_dump(mutate_tree(tree, rng), allow_unicode=True).encode()
    return mutate_bytes(yaml.safe_dump(tree).encode(), rng)


def read(path: Path) -> None:
    """Load the file and use it as the commands do."""
    run = load_run_config(path)
    run.render("yaml")
    _ = run.options
    run.dataset_names("train")


def check_many(folder: Path, count: int, seed: int) -> None:
    get_cfg()
    rng = random.Random(seed)
    refused = 0
    for number in range(count):
        path = folder / f"case_{number}.yaml"
        data = damaged(rng)
        path.write_bytes(data)
        try:
            load_run_config(path)
        except INPUT_ERRORS as error:
            refused += 1
            named(path, error)
            continue
        try:
            read(path)
        except INPUT_ERRORS:  # a value that a later step refuses
            refused += 1
    assert count * 0.1 < refused


def test_damaged_configs_are_named(tmp_path: Path) -> None:
    check_many(tmp_path, 100, 0)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_many_damaged_configs_are_named(tmp_path: Path, seed: int) -> None:
    check_many(tmp_path, 1000, seed)
