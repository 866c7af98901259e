"""`detectron2 zoo`: list the configs of the model zoo, or print one."""

import argparse
import json

from rich.table import Table

from detectron2.model_zoo.listing import entries, print_config, rows, source_of

from ..console import console

__all__ = ["run"]


def run(args: argparse.Namespace) -> int:
    """List or print."""
    if args.show:
        print(source_of(args.show) if args.form == "source" else print_config(args.show, args.form or ""))
        return 0
    found = entries(
        " ".join(args.inputs), task=args.task, trained=args.trained, quick=args.all, runnable=not args.all
    )
    table = rows(found, args.sort)
    if args.json:
        print(json.dumps(table, indent=2))
        return 0
    if not table:
        print("no config fits; `detectron2 zoo` without words lists all")
        return 1
    _print(table)
    return 0


def _print(table: list[dict[str, object]]) -> None:
    shown = Table(box=None, pad_edge=False)
    for name in table[0]:
        shown.add_column(
            name, justify="left" if name in ("config", "task", "other AP") else "right", no_wrap=True
        )
    for row in table:
        shown.add_row(*(_text(v) for v in row.values()))
    console().print(shown)
    print(f"{len(table)} configs; AP, seconds and memory as published (8 V100 GPUs). --show NAME prints one.")


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else ""
    return "" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
