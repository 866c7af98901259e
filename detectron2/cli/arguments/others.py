"""Arguments of the commands that need no model."""

import argparse

from .shared import examples, labels

__all__ = ["config_arguments", "data_arguments", "doctor_arguments", "new_arguments"]


def doctor_arguments(p: argparse.ArgumentParser) -> None:
    examples(
        p,
        "detectron2 doctor",
        "detectron2 doctor --json",
    )
    p.add_argument("--json", action="store_true", help="print the findings as JSON")


def new_arguments(p: argparse.ArgumentParser) -> None:
    examples(p, "detectron2 new toyshop", "detectron2 new work/toyshop")
    p.add_argument("project", metavar="PROJECT", help="folder to write; its last part names the package")


def config_arguments(p: argparse.ArgumentParser) -> None:
    examples(
        p,
        "detectron2 config show mask_rcnn_R_50_FPN_3x SOLVER.BASE_LR 0.001",
        "detectron2 config diff mask_rcnn_R_50_FPN_1x mask_rcnn_R_50_FPN_3x",
    )
    p.add_argument("action", choices=["show", "diff"])
    p.add_argument(
        "inputs",
        nargs="*",
        metavar="CONFIG",
        help="files, runs or names in the zoo; for `show`, one of them and then overrides",
    )
    p.add_argument("--form", choices=["yaml", "py"], help="how to print it (default: yaml)")


def data_arguments(p: argparse.ArgumentParser) -> None:
    examples(
        p,
        "detectron2 data check toys/train.json",
        "detectron2 data convert toys/train.json --to yolo --output toys_as_yolo",
    )
    p.add_argument("action", choices=["import", "check", "show", "stats", "convert", "split", "sample"])
    p.add_argument(
        "inputs",
        nargs="+",
        metavar="DATA",
        help="labels: a file or a folder of any known format; for `sample` the folder to write",
    )
    labels(p)
    p.add_argument("--to", metavar="FORMAT", help="format to write (import and split: coco)")
    p.add_argument("--output", metavar="DIR", help="folder to write")
    p.add_argument("--shares", default="train=0.8,val=0.2", help="for split (default: %(default)s)")
    p.add_argument("--seed", type=int, default=0, help="for split (default: %(default)s)")
    p.add_argument(
        "--limit", type=int, default=24, help="for show: largest number of images (default: %(default)s)"
    )
    p.add_argument("--near", action="store_true", help="for check: also find resized or recompressed copies")
    p.add_argument("--decode", action="store_true", help="for check: decode every pixel of every image")
    p.add_argument("--json", action="store_true", help="for stats: print JSON")
