"""Every model of the zoo has the parameters and buffers of the published one, by name, shape and order."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from detectron2 import model_zoo
from detectron2.config import instantiate
from detectron2.modeling import build_model

RECORDS = Path(__file__).parent.parent / "parity" / "zoo" / "state_dicts.json.gz"


def _expected() -> dict[str, list[tuple[str, list[int]]]]:
    groups = json.loads(gzip.decompress(RECORDS.read_bytes()))
    return {path: group["state_dict"] for group in groups for path in group["configs"]}


def _build(path: str) -> Any:
    cfg = model_zoo.get_config(path)
    with torch.device("meta"):  # shapes only: no memory, no random numbers
        if path.endswith(".py"):
            return instantiate(cfg.model)
        cfg.MODEL.DEVICE = "meta"
        cfg.MODEL.ROI_BOX_HEAD.USE_FED_LOSS = False
        return build_model(cfg)


EXPECTED = _expected()


def test_all_were_recorded() -> None:
    assert len(EXPECTED) == 95


@pytest.mark.slow
@pytest.mark.parametrize("path", sorted(EXPECTED))
def test_state_dict(path: str) -> None:
    found = {name: list(value.shape) for name, value in _build(path).state_dict().items()}
    expected = {name: list(shape) for name, shape in EXPECTED[path]}
    assert sorted(found) == sorted(expected)
    assert {k for k in found if found[k] != expected[k]} == set()
