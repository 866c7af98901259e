"""TorchScript: what remains works, what has ended says so."""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from detectron2.config import get_cfg
from detectron2.export import (
    STABLE_ONNX_OPSET_VERSION,
    add_export_config,
    dump_torchscript_IR,
    scripting_with_instances,
)
from detectron2.export.torchscript_patch import (
    freeze_training_mode,
    patch_builtin_len,
    patch_instances,
    patch_nonscriptable_classes,
)
from detectron2.structures import Boxes, Instances

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning")


def traced() -> Any:
    model = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.ReLU())
    return torch.jit.trace(model, torch.rand(2, 3))


def test_dump_of_a_module(tmp_path: Path) -> None:
    model = traced()
    dump_torchscript_IR(model, str(tmp_path / "new" / "folder"))
    texts = {p.name: p.read_text(encoding="utf-8") for p in (tmp_path / "new" / "folder").iterdir()}
    assert set(texts) == {"model.txt", "model_ts_code.txt", "model_ts_IR.txt", "model_ts_IR_inlined.txt"}
    assert texts["model_ts_IR.txt"] == str(model.graph)
    assert texts["model_ts_IR_inlined.txt"] == str(model.inlined_graph)
    assert "aten::linear" in texts["model_ts_IR_inlined.txt"]
    for path, _ in model.named_modules():
        assert f"# {path or '(whole)'}: " in texts["model_ts_code.txt"]
    assert model.code in texts["model_ts_code.txt"]
    assert "# 2: ReLU, code as in 1" in texts["model_ts_code.txt"]


def test_dump_of_a_function(tmp_path: Path) -> None:
    dump_torchscript_IR(torch.jit.trace(torch.relu, torch.rand(2)), str(tmp_path))
    assert not (tmp_path / "model.txt").exists()
    assert "relu" in (tmp_path / "model_ts_code.txt").read_text(encoding="utf-8")


def test_dump_refuses_other_things(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="got Linear"):
        dump_torchscript_IR(nn.Linear(1, 1), str(tmp_path))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "call",
    [
        lambda: scripting_with_instances(nn.Identity(), {"pred_boxes": Boxes}),
        lambda: patch_instances({"pred_boxes": Boxes}),
        lambda: patch_nonscriptable_classes(),
        lambda: freeze_training_mode(nn.Identity()),
    ],
)
def test_scripting_names_its_replacement(call: Any) -> None:
    with pytest.raises(NotImplementedError, match="export_program"):
        call()


def test_patched_len_keeps_sizes_of_tensors_and_is_undone(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("with_lengths")
    exec("def count(x):\n    return len(x)", module.__dict__)
    monkeypatch.setitem(sys.modules, "with_lengths", module)
    symbol = object()

    class Sized:
        def __len__(self) -> Any:
            return symbol

    with patch_builtin_len(["with_lengths", "no_such_module"]):
        assert module.count(Sized()) is symbol
        assert module.count([1, 2]) == 2
        assert module.count(torch.rand(3, 4)) == 3
        assert len(Instances((2, 2), scores=torch.rand(5))) == 5
    assert "len" not in vars(module)
    with pytest.raises(TypeError):
        module.count(Sized())


def test_export_config_is_left_as_it_is() -> None:
    cfg = get_cfg()
    with pytest.warns(DeprecationWarning, match="does nothing"):
        same = add_export_config(cfg)
    assert same is cfg
    assert same == get_cfg()


def test_opset_is_one_that_the_exporter_writes() -> None:
    from torch.onnx._internal.exporter import _constants

    assert STABLE_ONNX_OPSET_VERSION >= _constants.TORCHLIB_OPSET
