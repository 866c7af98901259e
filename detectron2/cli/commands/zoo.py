"""``detectron2 zoo``: list the configs of the model zoo, or print one."""

import argparse
import json
from pathlib import Path

from rich.table import Table

from detectron2.engine.run_config import load_run_config
from detectron2.model_zoo import get_config_file
from detectron2.model_zoo.listing import entries, find_config, rows, source_of

from ..console import console

__all__ = ["run"]

_TEXTS = ("config", "task", "other AP", "code licence", "weights licence", "data licence")


def run(args: argparse.Namespace) -> int:
    """List or print."""
    if args.show:
        print(_shown(args.show, args.form))
        return 0
    found = entries(
        " ".join(args.inputs),
        task=args.task,
        trained=args.trained,
        quick=args.all,
        runnable=not args.all,
        licence=args.licence,
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


def _shown(name: str, form: str | None) -> str:
    """Return the text of a config: resolved, in one of two forms, or as it is written."""
    if form == "source":
        return source_of(name)
    path = get_config_file(find_config(name))
    return load_run_config(path).render(form or Path(path).suffix[1:])


def _print(table: list[dict[str, object]]) -> None:
    shown = Table(box=None, pad_edge=False)
    for name in table[0]:
        shown.add_column(name, justify="left" if name in _TEXTS else "right", no_wrap=True)
    for row in table:
        shown.add_row(*(_text(v) for v in row.values()))
    console().print(shown)
    print(
        f"{len(table)} configs; AP, seconds and memory as published (on 8 V100 GPUs; projects: as their pages say). "
        "Licences as the publishers state them. --show NAME prints one."
    )


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else ""
    return "" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
