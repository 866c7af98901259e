"""Show datasets with DensePose annotations: ``python -m detectron2.projects.densepose.query_db --help``."""

import argparse
import logging
import pprint
import sys
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any

from detectron2.data import DatasetCatalog
from detectron2.data.detection_utils import read_image
from detectron2.structures import BoxMode
from detectron2.utils.logger import setup_logger

from .structures.data_relative import DensePoseDataRelative
from .utils.dbhelper import EntrySelector
from .utils.logger import verbosity_to_level
from .vis.base import CompoundVisualizer
from .vis.bounding_box import BoundingBoxVisualizer
from .vis.densepose_data_points import (
    DensePoseDataCoarseSegmentationVisualizer,
    DensePoseDataPointsIVisualizer,
    DensePoseDataPointsUVisualizer,
    DensePoseDataPointsVisualizer,
    DensePoseDataPointsVVisualizer,
)
from .vis.files import to_grey, write_numbered

__all__ = ["VISUALIZERS", "create_argument_parser", "main"]

logger = logging.getLogger("detectron2.projects.densepose.query_db")

VISUALIZERS: dict[str, Callable[[], Any]] = {
    "dp_segm": DensePoseDataCoarseSegmentationVisualizer,
    "dp_i": DensePoseDataPointsIVisualizer,
    "dp_u": DensePoseDataPointsUVisualizer,
    "dp_v": DensePoseDataPointsVVisualizer,
    "dp_pts": DensePoseDataPointsVisualizer,
    "bbox": BoundingBoxVisualizer,
}
"""visualizations of ``show``"""

# Keys of an annotation that a visualizer needs; all annotations have boxes.
_NEEDS = {"dp_segm": "segm", "dp_i": "i", "dp_u": "u", "dp_v": "v", "dp_pts": "x"}


def create_argument_parser() -> argparse.ArgumentParser:
    """Build the command-line parser."""
    parser = argparse.ArgumentParser(
        prog="python -m detectron2.projects.densepose.query_db",
        description="Show datasets with DensePose annotations.",
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_command(commands, "print", "print records", _print)
    show = _add_command(commands, "show", "draw the annotations on the images", _show)
    known = ", ".join(sorted(VISUALIZERS))
    show.add_argument("visualizations", help=f"what to draw, separated by commas: {known}")
    show.add_argument(
        "--output",
        default="output.png",
        metavar="FILE",
        help="output images; a number is added before the extension (%(default)s)",
    )
    return parser


def _add_command(commands: Any, name: str, text: str, function: Callable[..., None]) -> Any:
    command = commands.add_parser(name, help=text, description=text)
    command.add_argument("-v", "--verbosity", action="count", help="-v for info, -vv for debug messages")
    command.add_argument("dataset", help="name of a registered dataset")
    command.add_argument(
        "selector", help="'*' for all records, or conditions such as image_id:int=10-20,file_name=a.jpg"
    )
    command.add_argument("--max-entries", type=int, default=None, metavar="N", help="stop after N records")
    command.set_defaults(func=function)
    return command


def _entries(args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    selector = EntrySelector.from_string(args.selector)
    records = DatasetCatalog.get(args.dataset)
    logger.info("Loaded %d records of %s", len(records), args.dataset)
    return islice(filter(selector, records), args.max_entries)


def _print(args: argparse.Namespace) -> None:
    for entry in _entries(args):
        pprint.pprint(entry, indent=2, compact=True)


def _show(args: argparse.Namespace) -> None:
    names = args.visualizations.split(",")
    unknown = sorted(set(names) - set(VISUALIZERS))
    if unknown:
        raise ValueError(f"unknown visualizations {unknown}; available are {', '.join(sorted(VISUALIZERS))}")
    visualizer = CompoundVisualizer([VISUALIZERS[name]() for name in names])
    for number, entry in enumerate(_entries(args), start=1):
        image = to_grey(read_image(entry["file_name"], format="BGR"))
        picture = visualizer.visualize(image, [_data_for(name, entry) for name in names])
        logger.info("Wrote %s", write_numbered(picture, args.output, number))


def _data_for(visualization: str, entry: dict[str, Any]) -> Any:
    """Return the input of a visualizer: boxes, or boxes and annotations."""
    boxes, datas = [], []
    needed = _NEEDS.get(visualization)
    for annotation in entry.get("annotations", ()):
        box = BoxMode.convert(annotation["bbox"], annotation["bbox_mode"], BoxMode.XYWH_ABS)
        if needed is None:
            boxes.append(box)
        elif DensePoseDataRelative.validate_annotation(annotation)[0]:
            data = DensePoseDataRelative(annotation)
            if hasattr(data, needed):
                boxes.append(box)
                datas.append(data)
    return boxes if needed is None else (boxes, datas)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the program.

    Args:
        argv: command-line arguments; None = those of the process.
    """
    args = create_argument_parser().parse_args(argv)
    setup_logger(name="detectron2").setLevel(verbosity_to_level(args.verbosity))
    try:
        args.func(args)
    except (FileNotFoundError, ValueError, KeyError) as reason:
        sys.exit(f"query_db: {reason.args[0] if isinstance(reason, KeyError) else reason}")


if __name__ == "__main__":
    main()
