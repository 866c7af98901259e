"""``detectron2 config``: print a resolved config, what differs between two, or the Python form of a YAML one."""

import argparse
from pathlib import Path
from typing import cast

from rich.table import Table

from detectron2.config import CfgNode
from detectron2.config.key_table import key_table
from detectron2.engine.run_config import RunConfig, load_run_config, run_config
from detectron2.engine.run_config.files import diff
from detectron2.model_zoo.convert import to_python

from ..console import console
from ..errors import UserError
from ..run.recipe import find_model

__all__ = ["run"]


def run(args: argparse.Namespace) -> int:
    """Run the action of the command line."""
    actions = {"show": _show, "diff": _diff, "convert": _convert, "keys": _keys}
    return actions[args.action](args)


def _load(name: str, opts: list[str]) -> RunConfig:
    path = Path(name) / "config.yaml" if (Path(name) / "config.yaml").is_file() else find_model(name)[0]
    return load_run_config(path, opts)


def _show(args: argparse.Namespace) -> int:
    if not args.inputs:
        raise UserError("name a config: a file, a run, or a name in the zoo; overrides may follow")
    print(_load(args.inputs[0], args.inputs[1:]).render(args.form or "yaml"))
    return 0


def _diff(args: argparse.Namespace) -> int:
    if len(args.inputs) != 2:
        raise UserError("name two configs")
    runs = [_load(name, []) for name in args.inputs]
    left, right = (run.cfg for run in runs)
    if runs[0].kind != runs[1].kind:
        # Compare as Python configs: a YAML config has a form as one, but not the other way round.
        left, right = (
            to_python(cast(CfgNode, run.cfg))[0] if run.kind == "yacs" else run.cfg for run in runs
        )
    changes = diff(left, right)
    table = Table("key", *args.inputs, box=None, pad_edge=False)
    for change in changes:
        table.add_row(change.key, repr(change.left), repr(change.right))
    if changes:
        console().print(table)
    print(f"{len(changes)} keys differ")
    return int(bool(changes))


def _convert(args: argparse.Namespace) -> int:
    if len(args.inputs) != 1:
        raise UserError("name one config")
    run = _load(args.inputs[0], [])
    if run.kind != "yacs":
        raise UserError(f"{args.inputs[0]} is a Python config already; convert makes one from a YAML config")
    converted, lost = to_python(cast(CfgNode, run.cfg))
    print(run_config(converted).render(args.form or "py"))
    if lost:
        console(stderr=True).print(f"without a counterpart: {', '.join(lost)}")
    return 0


def _keys(args: argparse.Namespace) -> int:
    """The table of old keys and new places."""
    table = Table("yacs key", "place in a Python config", "note", box=None, pad_edge=False)
    words = [w.lower() for w in args.inputs]
    for row in key_table():
        if all(w in " ".join(row).lower() for w in words):
            table.add_row(*row)
    console().print(table)
    return 0
