"""Values of NumPy and PyTorch in JSON."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from detectron2.utils.json_values import plain


def test_everything_that_labels_hold_can_be_written():
    value = {
        "ids": np.arange(3),
        np.int64(4): np.float32(0.5),
        "nested": [({"t": torch.tensor([[1.5]])}, np.bool_(True)), {np.int8(1)}],
        "counts": b"abc",
        "path": Path("a") / "b",
        "none": None,
    }
    written = json.loads(json.dumps(plain(value)))
    assert written == {
        "ids": [0, 1, 2],
        "4": 0.5,
        "nested": [[{"t": [[1.5]]}, True], [1]],
        "counts": "abc",
        "path": str(Path("a") / "b"),
        "none": None,
    }


def test_other_values_stay_and_json_names_them():
    with pytest.raises(TypeError, match="complex"):
        json.dumps(plain({"a": 1j}))
