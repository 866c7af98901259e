"""Arguments that several commands take."""

import argparse

__all__ = [
    "DATA_HELP",
    "MODEL_HELP",
    "augmentation",
    "engine",
    "examples",
    "labels",
    "overrides",
    "overwrite",
    "running",
    "tiles",
    "trust",
]

DATA_HELP = "a label file, or a folder of labels in any known format and their images"

MODEL_HELP = "folder that `detectron2 train` wrote, a zoo name or a config file"


def running(p: argparse.ArgumentParser, batch_size: int) -> None:
    """Add what says how a model runs on pictures."""
    p.add_argument("--weights", help="best, final, or a file (default: best)")
    p.add_argument("--device", help="cpu, cuda, mps … (default: the best there is)")
    p.add_argument(
        "--batch-size", type=int, default=batch_size, help="images per batch (default: %(default)s)"
    )
    p.add_argument(
        "--precision", default="float32", help="float32, float16 or bfloat16 (default: %(default)s)"
    )
    p.add_argument("--compile", action="store_true", help="compile the backbone; worth it for many images")


def engine(p: argparse.ArgumentParser, what: str) -> None:
    """Add ``--engine`` and ``--num-workers``; ``what`` is the help of the first."""
    p.add_argument("--engine", choices=["ray"], help=f"{what} (default: this machine alone)")
    p.add_argument("--num-workers", type=int, help="with --engine ray: processes (default: 1)")


def labels(p: argparse.ArgumentParser) -> None:
    p.add_argument("--format", help="format of the labels (default: detected)")
    p.add_argument("--images", metavar="DIR", help="image folder, if it is not where the format expects it")
    p.add_argument("--task", help="for yolo: detect, segment, pose, obb (default: detected)")


def tiles(p: argparse.ArgumentParser, what: str) -> None:
    p.add_argument("--tile", type=int, metavar="PIXELS", help=f"large images: {what}")
    p.add_argument(
        "--overlap",
        type=float,
        metavar="FRACTION",
        help="with --tile: fraction of a tile that overlaps its neighbour (default: 0.2)",
    )
    p.add_argument(
        "--bands",
        type=int,
        nargs=3,
        metavar=("R", "G", "B"),
        help="with --tile: bands of a raster, counted from 1 (default: by their names in the file, or else the first three)",
    )
    p.add_argument(
        "--value-range",
        type=float,
        nargs=2,
        metavar=("LOW", "HIGH"),
        help="with --tile: values of a raster that map to black and white (required for more than 8 bits)",
    )


def augmentation(p: argparse.ArgumentParser) -> None:
    """Add ``--tta``."""
    p.add_argument(
        "--tta",
        type=_sizes,
        metavar="SIZES",
        help="test-time augmentation: predict at these lengths of the shorter side, such as 400,600,800, mirrored too, and "
        "merge the results; auto takes those of TEST.AUG",
    )


def _sizes(text: str) -> tuple[int, ...]:
    """Read lengths that are separated by commas; none for "auto"."""
    sizes = () if text == "auto" else tuple(int(word) for word in text.split(","))
    if any(size < 1 for size in sizes):
        raise ValueError(text)
    return sizes


def examples(p: argparse.ArgumentParser, *commands: str) -> None:
    """Show example commands at the end of a sub-command's help."""
    p.formatter_class = argparse.RawDescriptionHelpFormatter
    p.epilog = "examples:\n" + "\n".join(f"  {command}" for command in commands)


def overwrite(p: argparse.ArgumentParser) -> None:
    p.add_argument("--overwrite", action="store_true", help="remove the run in --output and start a new one")


def trust(p: argparse.ArgumentParser) -> None:
    p.add_argument(
        "--import",
        dest="imports",
        action="append",
        default=[],
        metavar="MODULE",
        help="import your own module, so that configs may name its functions and classes; may be repeated",
    )
    p.add_argument(
        "--trust",
        action="store_true",
        help="let configs name any callable; only for files that you would run as programs",
    )


def overrides(p: argparse.ArgumentParser) -> None:
    trust(p)
    p.add_argument(
        "opts",
        nargs="*",
        metavar="KEY VALUE",
        help="config keys, such as SOLVER.BASE_LR 0.001 or SOLVER.BASE_LR=0.001",
    )
