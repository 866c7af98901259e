"""``detectron2 data``: import, check, show, stats, convert and split labels of any format."""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.table import Table

from detectron2.data.formats import check_dataset, read_dataset, split_dataset, write_dataset
from detectron2.data.formats.base import Dataset
from detectron2.data.health import dataset_statistics, find_duplicates, find_leakage
from detectron2.reports import write_data_page

from ..console import console
from ..errors import UserError

__all__ = ["run"]

MOST_LISTED = 10


def run(args: argparse.Namespace) -> int:
    """Run the action of the command line."""
    actions: dict[str, Callable[[argparse.Namespace], int]] = {
        "import": _import,
        "check": _check,
        "show": _show,
        "stats": _stats,
        "convert": _convert,
        "split": _split,
    }
    return actions[args.action](args)


def _read(args: argparse.Namespace, path: str | None = None) -> Dataset:
    options: dict[str, Any] = {"task": args.task} if args.task else {}
    dataset = read_dataset(path or args.inputs[0], args.format, args.images, **options)
    _say_skipped(dataset, "reading")
    return dataset


def _say_skipped(dataset: Dataset, when: str) -> None:
    if dataset.skipped:
        print(f"{len(dataset.skipped)} labels or files were left out while {when}:")
        for line in dataset.skipped[:MOST_LISTED]:
            print(f"    {line}")
        if len(dataset.skipped) > MOST_LISTED:
            print(f"    … and {len(dataset.skipped) - MOST_LISTED} more")


def _target(args: argparse.Namespace) -> Path:
    if not args.output:
        raise UserError(f"data {args.action} writes files: name the folder with --output")
    return Path(args.output)


def _import(args: argparse.Namespace) -> int:
    """Check, and write as COCO."""
    args.to = args.to or "coco"
    dataset = _read(args)
    report = check_dataset(dataset, args.inputs[0])
    print(report.to_text())
    if not report.ok:
        return 1
    return _write(args, dataset)


def _convert(args: argparse.Namespace) -> int:
    if not args.to:
        raise UserError("name the format to write with --to")
    return _write(args, _read(args))


def _write(args: argparse.Namespace, dataset: Dataset) -> int:
    folder = _target(args)
    before = len(dataset.skipped)
    write_dataset(dataset, folder, args.to)
    dataset.skipped = dataset.skipped[before:]
    _say_skipped(dataset, "writing")
    print(f"{len(dataset.records)} images written to {folder} as {args.to}")
    return 0


def _check(args: argparse.Namespace) -> int:
    """Return the health report; several data sets are also compared with each other for pictures in common."""
    ok = True
    splits = {}
    for path in args.inputs:
        dataset = _read(args, path)
        report = check_dataset(dataset, path, images="decode" if args.decode else "header")
        print(report.to_text())
        ok = ok and report.ok
        splits[path] = dataset.records
        for group in find_duplicates(dataset.records, near=args.near)[:MOST_LISTED]:
            print(f"same picture: {', '.join(group)}")
        _print_imbalance(dataset)
    if len(splits) > 1:
        leaks = find_leakage(splits, near=args.near)
        for leak in leaks[:MOST_LISTED]:
            print(f"in both: {leak['file_a']} and {leak['file_b']} (same {leak['how']})")
        print(f"{len(leaks)} pictures are in more than one of these data sets")
        ok = ok and not leaks
    return int(not ok)


def _print_imbalance(dataset: Dataset) -> None:
    numbers = dataset_statistics(dataset.records, dataset.classes or None)
    if numbers["unused_classes"] and numbers["num_annotations"]:
        print(f"classes without a label: {', '.join(numbers['unused_classes'])}")
    if numbers["imbalance"] and numbers["imbalance"] >= 10:
        print(f"the most frequent class has {numbers['imbalance']:.0f} times the labels of the rarest")


def _stats(args: argparse.Namespace) -> int:
    dataset = _read(args)
    numbers = dataset_statistics(dataset.records, dataset.classes or None)
    if args.json:
        print(json.dumps(numbers, indent=2))
        return 0
    classes = numbers.pop("classes")
    table = Table(box=None, pad_edge=False)
    for name in classes[0] if classes else ():
        table.add_column(name, justify="left" if name == "name" else "right")
    for row in classes:
        table.add_row(*(f"{v:.3g}" if isinstance(v, float) else str(v) for v in row.values()))
    if classes:
        console().print(table)
    for name, value in numbers.items():
        print(f"{name}: {value}")
    return 0


def _show(args: argparse.Namespace) -> int:
    dataset = _read(args)
    page = write_data_page(dataset, _target(args), title=Path(args.inputs[0]).name, limit=args.limit)
    print(f"see {page}")
    return 0


def _split(args: argparse.Namespace) -> int:
    folder = _target(args)
    try:
        shares = {name: float(share) for name, share in (s.split("=") for s in args.shares.split(","))}
    except ValueError:
        raise UserError(f"--shares must look like train=0.8,val=0.2, got {args.shares!r}") from None
    for name, part in split_dataset(_read(args), shares, seed=args.seed).items():
        write_dataset(part, folder / name, args.to or "coco")
        print(f"{name}: {len(part.records)} images in {folder / name}")
    return 0
