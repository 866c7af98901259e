"""TorchScript: looking into modules that are in this form. Making them by scripting has ended."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any, NoReturn

import torch
from torch import nn

from detectron2.utils.file_io.atomic import atomic_write
from detectron2.utils.reexports import passed_on

from ._retired import TORCHSCRIPT, retire

__all__ = ["dump_torchscript_IR", "scripting_with_instances"]

__getattr__ = passed_on(__name__)


def scripting_with_instances(model: nn.Module, fields: dict[str, type]) -> NoReturn:
    """Gone: scripting is deprecated in PyTorch, and these models are exported by ``torch.export``.

    Args:
        model: a model.
        fields: names and types of the fields of ``Instances``.

    Raises:
        NotImplementedError: always; the message names the replacement.
    """
    retire("scripting_with_instances", TORCHSCRIPT)


def dump_torchscript_IR(model: Any, dir: str) -> None:
    """Write what a TorchScript module consists of as text files, to be read by people.

    * ``model_ts_code.txt``: the code of every method of every submodule;
    * ``model_ts_IR.txt``: the graph of the whole;
    * ``model_ts_IR_inlined.txt``: the graph with all calls inlined;
    * ``model.txt``: the tree of submodules (not for a function).

    Args:
        model: traced or scripted module or function.
        dir: folder for the files; made if it is not there.

    Raises:
        TypeError: not in TorchScript form.
    """
    is_module = isinstance(model, torch.jit.ScriptModule)
    if not is_module and not isinstance(model, torch.jit.ScriptFunction):
        raise TypeError(
            f"dump_torchscript_IR expects a ScriptModule or ScriptFunction, got {type(model).__name__}; "
            "an ExportedProgram is readable as it is: print(program), print(program.graph_module.code)"
        )
    files = {
        "model_ts_code.txt": "\n".join(_code_of_modules(model) if is_module else [model.code]),
        "model_ts_IR.txt": str(model.graph),
        "model_ts_IR_inlined.txt": str(model.inlined_graph),
    }
    if is_module:
        files["model.txt"] = str(model)
    for name, text in files.items():
        with atomic_write(os.path.join(dir, name)) as f:
            f.write(text)


def _code_of_modules(model: torch.jit.ScriptModule) -> Iterator[str]:
    """Yield a heading and the methods of each submodule; classes seen before are referred to."""
    seen: dict[str, str] = {}
    for path, module in model.named_modules():
        compiled = getattr(module, "_c", None)
        if compiled is None:
            continue
        path = path or "(whole)"
        code = "\n".join(compiled._get_method(name).code for name in sorted(compiled._method_names()))
        heading = f"# {path}: {getattr(module, 'original_name', type(module).__name__)}"
        if code in seen:
            yield f"{heading}, code as in {seen[code]}\n"
        else:
            if code:
                seen[code] = path
            yield f"{heading}\n{code or '# no methods'}\n"
