"""``detectron2 config``: print a resolved config, or the differences between two."""

import argparse
from pathlib import Path

from rich.table import Table

from detectron2.engine.run_config import RunConfig, load_run_config
from detectron2.engine.run_config.files import diff
from detectron2.model_zoo.listing import find_model

from ..console import console
from ..errors import UserError

__all__ = ["run"]


def run(args: argparse.Namespace) -> int:
    """Run the action of the command line."""
    actions = {"show": _show, "diff": _diff}
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
    if runs[0].kind != runs[1].kind:
        raise UserError("one is a YAML config and one a Python config; their keys cannot be compared")
    changes = diff(*(run.cfg for run in runs))
    table = Table("key", *args.inputs, box=None, pad_edge=False)
    for change in changes:
        table.add_row(change.key, repr(change.left), repr(change.right))
    if changes:
        console().print(table)
    print(f"{len(changes)} keys differ")
    return int(bool(changes))
