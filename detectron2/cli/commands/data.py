"""``detectron2 data``: import, check, show, stats, convert and split labels of any format; or write a sample."""

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.table import Table

from detectron2.data.formats import Dataset, plan_data, read_parts, split_dataset, write_dataset
from detectron2.data.formats.api import merged
from detectron2.data.health import dataset_statistics, find_duplicates, find_leakage
from detectron2.data.toys import write_toys
from detectron2.reports import write_data_page

from ..console import console
from ..errors import UserError
from ..run.plan import source_of

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
        "sample": _sample,
    }
    return actions[args.action](args)


def _read(args: argparse.Namespace) -> dict[str, Dataset]:
    """Read the parts of the labels, and print what was skipped."""
    source = source_of(args, args.inputs[0])
    parts, origin = read_parts(source.path, source.format, source.images, **source.options)
    for dataset in parts.values():
        lines = [str(f) for f in dataset.findings if f.severity in ("error", "skip")]
        _say_skipped([*lines, *dataset.skipped], "reading")
    if origin:
        print(f"parts: {origin}")
    return parts


def _whole(args: argparse.Namespace) -> Dataset:
    return merged(list(_read(args).values()))


def _say_skipped(skipped: Sequence[str], when: str) -> None:
    if skipped:
        print(f"{len(skipped)} labels or files were skipped while {when}:")
        for line in skipped[:MOST_LISTED]:
            print(f"    {line}")
        if len(skipped) > MOST_LISTED:
            print(f"    … and {len(skipped) - MOST_LISTED} more")


def _sample(args: argparse.Namespace) -> int:
    folder = Path(args.inputs[0])
    if folder.exists() and any(folder.iterdir()):
        raise UserError(f"{folder} is not empty; name a new folder")
    write_toys(folder, seed=args.seed)
    print(f"40 pictures for training and 10 for validation written to {folder}. Next:")
    print(
        f"    detectron2 train --train {folder / 'train.json'} --val {folder / 'val.json'} --output runs/toys"
    )
    return 0


def _target(args: argparse.Namespace) -> Path:
    if not args.output:
        raise UserError(f"data {args.action} writes files: name the folder with --output")
    return Path(args.output)


def _import(args: argparse.Namespace) -> int:
    """Check the labels, and write them as COCO."""
    args.to = args.to or "coco"
    plan = plan_data(source_of(args, args.inputs[0]))
    print(plan.health())
    print(plan.to_text())
    if not all(r.ok for r in plan.reports.values()):
        return 1
    return _write(args, plan.parts)


def _convert(args: argparse.Namespace) -> int:
    if not args.to:
        raise UserError("name the format to write with --to")
    return _write(args, _read(args))


def _write(args: argparse.Namespace, parts: dict[str, Dataset]) -> int:
    """Write each part, in its own folder if there are several."""
    for name, dataset in parts.items():
        folder = _target(args) if len(parts) == 1 else _target(args) / name
        before = len(dataset.skipped)
        write_dataset(dataset, folder, args.to)
        _say_skipped(dataset.skipped[before:], "writing")
        print(f"{len(dataset.records)} images written to {folder} as {args.to}")
    return 0


def _check(args: argparse.Namespace) -> int:
    """Print the data check of training; also compare several datasets or parts for common images."""
    ok = True
    splits = {}
    for path in args.inputs:
        plan = plan_data(source_of(args, path), images="decode" if args.decode else "header")
        print(plan.health())
        print(plan.to_text())
        ok = ok and all(r.ok for r in plan.reports.values())
        for name, dataset in plan.parts.items():
            splits[path if name == "all" else f"{path} ({name})"] = dataset.records
            for group in find_duplicates(dataset.records, near=args.near)[:MOST_LISTED]:
                print(f"same image: {', '.join(group)}")
            _print_imbalance(dataset)
    if len(splits) > 1:
        leaks = find_leakage(splits, near=args.near)
        for leak in leaks[:MOST_LISTED]:
            print(f"in both: {leak['file_a']} and {leak['file_b']} (same {leak['how']})")
        print(f"{len(leaks)} images are in more than one of these datasets")
        ok = ok and not leaks
    return int(not ok)


def _print_imbalance(dataset: Dataset) -> None:
    numbers = dataset_statistics(dataset.records, dataset.classes or None)
    if numbers["unused_classes"] and numbers["num_annotations"]:
        print(f"classes without a label: {', '.join(numbers['unused_classes'])}")
    if numbers["imbalance"] and numbers["imbalance"] >= 10:
        print(f"the most frequent class has {numbers['imbalance']:.0f} times the labels of the rarest")


def _stats(args: argparse.Namespace) -> int:
    dataset = _whole(args)
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
    dataset = _whole(args)
    page = write_data_page(dataset, _target(args), title=Path(args.inputs[0]).name, limit=args.limit)
    print(f"see {page}")
    return 0


def _split(args: argparse.Namespace) -> int:
    folder = _target(args)
    try:
        shares = {name: float(share) for name, share in (s.split("=") for s in args.shares.split(","))}
    except ValueError:
        raise UserError(f"--shares must look like train=0.8,val=0.2, got {args.shares!r}") from None
    for name, part in split_dataset(_whole(args), shares, seed=args.seed).items():
        write_dataset(part, folder / name, args.to or "coco")
        print(f"{name}: {len(part.records)} images in {folder / name}")
    return 0
