"""All arguments of all sub-commands, without slow imports."""

import argparse
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NoReturn

from detectron2 import __version__
from detectron2.utils.suggest import closest, did_you_mean

__all__ = ["build_parser", "parse"]

DATA_HELP = "a label file, or a folder of labels in any known format and their images"


@dataclass(frozen=True)
class Command:
    """A sub-command: its one-line help, the function that adds its arguments, and ``module:name`` that runs it."""

    help: str
    arguments: Callable[[argparse.ArgumentParser], None]
    run: str


class _Parser(argparse.ArgumentParser):
    """Suggests the closest choice for a misspelt one."""

    def error(self, message: str) -> NoReturn:
        wrong = re.search(r"invalid choice: '([^']*)' \(choose from (.*)\)", message)
        if wrong:
            choices = re.findall(r"[^',\s]+", wrong[2])
            message += f". {did_you_mean(wrong[1], choices)}"
        super().error(message)


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of the whole command line; ``run`` of the result names the function to call."""
    parser = _Parser(
        prog="detectron2",
        description="Detection, segmentation, keypoints and rotated boxes: from images to a trained, "
        "evaluated, explained model.",
    )
    parser.add_argument("--version", action="version", version=f"detectron2 {__version__}")
    parser.set_defaults(traceback=False)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, command in COMMANDS.items():
        sub = commands.add_parser(name, help=command.help, description=command.help)
        command.arguments(sub)
        sub.add_argument("--traceback", action="store_true", help="show where an error comes from")
        sub.set_defaults(run=command.run)
    return parser


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse a command line.

    argparse collects positional words (config keys, images) only once, and returns those after a later option as
    unknown. They are appended here, so that options and words may be mixed.
    """
    parser = build_parser()
    args, rest = parser.parse_known_args(argv)
    field = next((name for name in ("inputs", "opts") if hasattr(args, name)), None)
    unknown = [word for word in rest if word.startswith("--")]
    if unknown or (rest and field is None):
        word = (unknown or rest)[0]
        near = closest(word.split("=")[0], _options_of(parser, args.command), limit=1) if unknown else []
        hint = f"did you mean {near[0]}? See" if near else "see"
        parser.error(f"{args.command}: unknown argument {word!r}; {hint} detectron2 {args.command} --help")
    if field is not None:
        setattr(args, field, [*getattr(args, field), *rest])
    return args


def _options_of(parser: argparse.ArgumentParser, command: str) -> list[str]:
    """Return all options of a sub-command."""
    subs = next(a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    return list(subs.choices[command]._option_string_actions)


def _quickstart(p: argparse.ArgumentParser) -> None:
    p.add_argument("--output", default="output/quickstart", help="folder to write (default: %(default)s)")
    p.add_argument("--device", help="cpu, cuda, mps … (default: the best there is)")
    p.add_argument("--seed", type=int, default=7, help="seed of the run (default: %(default)s)")
    p.add_argument("--resume", action="store_true", help="resume from the last checkpoint in --output")
    _overwrite(p)
    _overrides(p)


def _train(p: argparse.ArgumentParser) -> None:
    p.add_argument("--train", metavar="DATA", help=f"training data: {DATA_HELP}")
    p.add_argument(
        "--val",
        metavar="DATA",
        help="validation data (default: the validation part of --train, else a fifth of it)",
    )
    _labels(p)
    p.add_argument("--train-images", metavar="DIR", help="image folder of --train, if it is not found")
    p.add_argument("--val-images", metavar="DIR", help="image folder of --val, if it is not found")
    p.add_argument(
        "--model",
        help="name in the model zoo, or a config file (default: the Faster, Mask or Keypoint R-CNN that fits the labels; "
        "`detectron2 zoo` lists all)",
    )
    p.add_argument("--output", help="folder of the run (default: runs/NAME-OF-DATA-MODEL)")
    p.add_argument(
        "--weights",
        default="auto",
        help="auto: the zoo's weights for the model, else its pretrained backbone, else none with a warning; "
        "zoo, backbone, none, or a file or URL (default: %(default)s)",
    )
    p.add_argument(
        "--epochs", type=float, help="length in passes over the data (default: from data and model)"
    )
    p.add_argument("--batch-size", type=int, help="images per step, over all devices")
    p.add_argument("--device", help="cpu, cuda, mps … (default: the best there is)")
    p.add_argument("--num-gpus", type=int, default=1, help="processes, one per GPU (default: %(default)s)")
    p.add_argument("--workers", type=int, help="loader processes (default: from the number of processors)")
    p.add_argument("--seed", type=int, default=0, help="seed of the run (default: %(default)s)")
    p.add_argument(
        "--resume", action="store_true", help="resume from the last complete checkpoint in --output"
    )
    _tiles(p, "train on tiles of this side, and validate whole images tile by tile")
    p.add_argument(
        "--empty-tiles",
        type=float,
        default=0.1,
        metavar="RATIO",
        help="training tiles without an object per tile with one (default: %(default)s)",
    )
    p.add_argument(
        "--dense",
        action="store_true",
        help="for images with very many objects: more proposals, samples and detections, smaller anchors",
    )
    _overwrite(p)
    _overrides(p)


def _eval(p: argparse.ArgumentParser) -> None:
    p.add_argument(
        "model", help="folder that `detectron2 train` wrote, or a file that `detectron2 export` wrote"
    )
    p.add_argument("--data", metavar="DATA", help=f"{DATA_HELP} (default: the run's validation data)")
    _labels(p)
    p.add_argument("--weights", default="best", help="best, final, or a file (default: %(default)s)")
    p.add_argument("--output", help="folder to write (default: MODEL/eval)")
    p.add_argument(
        "--against",
        metavar="OTHER_RUN",
        help="also write comparison.html: this run against another one, on the same data",
    )
    p.add_argument("--device", help="cpu, cuda, mps … (default: the best there is)")
    p.add_argument(
        "--resume",
        action="store_true",
        help="skip images that an interrupted evaluation in --output has evaluated",
    )
    _tiles(p, "predict tiles of this side and merge them (default: as in the training; 0 = whole images)")
    _overrides(p)


def _predict(p: argparse.ArgumentParser) -> None:
    _examples(
        p,
        "detectron2 predict runs/fruit photos/ --threshold 0.7 --output drawn",
        "detectron2 predict mask_rcnn_R_50_FPN_3x street.mp4 --track",
    )
    p.add_argument(
        "model", help="folder that `detectron2 train` wrote, a zoo name, a config file or an exported file"
    )
    p.add_argument(
        "inputs",
        nargs="*",
        help="pictures, videos, folders, quoted patterns such as 'photos/**/*.jpg', URLs, camera:0 (default: the run's "
        "validation images)",
    )
    p.add_argument("--output", default="predictions", help="folder to write (default: %(default)s)")
    p.add_argument("--threshold", type=float, default=0.5, help="lowest score shown (default: %(default)s)")
    p.add_argument("--weights", default="best", help="best, final, or a file (default: %(default)s)")
    p.add_argument("--device", help="cpu, cuda, mps … (default: the best there is)")
    p.add_argument("--limit", type=int, help="largest number of inputs, and of frames per video")
    p.add_argument("--classes", metavar="NAMES", help="names of the classes to keep, separated by commas")
    p.add_argument(
        "--track",
        nargs="?",
        const="BBoxIOUTracker",
        metavar="TRACKER",
        help="follow objects through videos: BBoxIOUTracker, VanillaHungarianBBoxIOUTracker, "
        "IOUWeightedHungarianBBoxIOUTracker, or trackers:NAME of the package trackers (default: %(const)s)",
    )
    p.add_argument("--batch-size", type=int, default=1, help="images per batch (default: %(default)s)")
    p.add_argument(
        "--precision", default="float32", help="float32, float16 or bfloat16 (default: %(default)s)"
    )
    p.add_argument("--compile", action="store_true", help="compile the backbone; worth it for long videos")
    _tiles(p, "predict tiles of this side and merge them (default: as in the training; 0 = whole images)")
    _trust(p)


def _serve(p: argparse.ArgumentParser) -> None:
    p.add_argument("model", help="folder that `detectron2 train` wrote, a zoo name or a config file")
    p.add_argument(
        "--host",
        default="127.0.0.1",
        help="address to listen at; 0.0.0.0 for every one (default: %(default)s)",
    )
    p.add_argument("--port", type=int, default=8000, help="0 takes any that is free (default: %(default)s)")
    p.add_argument("--weights", default="best", help="best, final, or a file (default: %(default)s)")
    p.add_argument("--device", help="cpu, cuda, mps … (default: the best there is)")
    p.add_argument(
        "--threshold",
        type=float,
        default=0.05,
        help="lowest score a request can ask for (default: %(default)s)",
    )
    p.add_argument(
        "--precision", default="float32", help="float32, float16 or bfloat16 (default: %(default)s)"
    )
    p.add_argument("--compile", action="store_true", help="compile the backbone")
    p.add_argument(
        "--batch-size", type=int, default=8, help="pictures that run together (default: %(default)s)"
    )
    p.add_argument(
        "--batch-wait",
        type=float,
        default=5,
        metavar="MS",
        help="time to wait for a batch (default: %(default)s ms)",
    )
    p.add_argument(
        "--queue", type=int, default=256, help="requests at once; more get 429 (default: %(default)s)"
    )
    p.add_argument("--timeout", type=float, default=60, help="seconds for a request (default: %(default)s)")
    p.add_argument("--max-megabytes", type=float, default=20, help="of a request (default: %(default)s)")
    p.add_argument("--max-megapixels", type=float, default=50, help="of a picture (default: %(default)s)")
    _trust(p)


def _analyze(p: argparse.ArgumentParser) -> None:
    p.add_argument("model", help="folder that `detectron2 train` wrote, a zoo name or a config file")
    p.add_argument(
        "--image",
        metavar="FILE",
        help="run on this image (default: random values, in which a trained model finds little)",
    )
    p.add_argument(
        "--input-size",
        type=int,
        nargs=2,
        metavar=("H", "W"),
        help="pixels that enter the network (default: as the config resizes the image; 480 x 640 without one)",
    )
    p.add_argument(
        "--depth", type=int, default=2, help="deepest level of modules shown (default: %(default)s)"
    )
    p.add_argument(
        "--rounds",
        type=int,
        default=3,
        help="timed calls, of which the median is shown (default: %(default)s)",
    )
    p.add_argument(
        "--weights", help="best, final, or a file (default: the best of a run; random ones of a config)"
    )
    p.add_argument("--device", help="cpu, cuda, mps … (default: the best there is)")
    p.add_argument(
        "--output", help="folder for analysis.svg and analysis.json (default: RUN/analysis, or ./analysis)"
    )
    p.add_argument("--json", action="store_true", help="print JSON, and write files only into --output")
    _overrides(p)
    _examples(
        p,
        "detectron2 analyze mask_rcnn_R_50_FPN_3x --input-size 800 1333",
        "detectron2 analyze runs/nuclei --image nuclei/42.png --depth 3 --json",
    )


def _export(p: argparse.ArgumentParser) -> None:
    p.add_argument("model", help="folder that `detectron2 train` wrote, a zoo name or a config file")
    p.add_argument(
        "inputs",
        nargs="*",
        metavar="PICTURE",
        help="images and folders to prove the file on (default: the validation images)",
    )
    p.add_argument(
        "--to", default="onnx", help="pt2, onnx, openvino, torchscript or aoti (default: %(default)s)"
    )
    p.add_argument(
        "--precision",
        default="fp32",
        help="fp32, fp16, bf16 or int8; all but fp32 also tell the AP before and after (default: %(default)s)",
    )
    p.add_argument(
        "--static",
        type=int,
        nargs=2,
        metavar=("H", "W"),
        help="fix height and width, in pixels; pictures are fitted into them (default: any size)",
    )
    p.add_argument(
        "--batch", type=int, metavar="N", help="fix the number of images that the file takes at once"
    )
    p.add_argument("--data", metavar="DATA", help=f"{DATA_HELP} (default: the run's validation data)")
    _labels(p)
    p.add_argument("--weights", help="best, final, or a file (default: best)")
    p.add_argument("--output", metavar="FILE", help="file to write (default: model.SUFFIX in the run)")
    p.add_argument("--limit", type=int, default=8, help="most pictures to prove it on (default: %(default)s)")
    _trust(p)
    _examples(
        p,
        "detectron2 export runs/nuclei --to onnx",
        "detectron2 export mask_rcnn_R_50_FPN_3x photos/ --to openvino --precision fp16",
    )


def _doctor(p: argparse.ArgumentParser) -> None:
    p.add_argument("--json", action="store_true", help="print the findings as JSON")


def _zoo(p: argparse.ArgumentParser) -> None:
    p.add_argument("inputs", nargs="*", metavar="WORD", help="words in the config's path")
    p.add_argument(
        "--task", default="", help="detection, instance, keypoints, panoptic, semantic, proposals …"
    )
    p.add_argument("--trained", action="store_true", help="only those with published weights")
    p.add_argument("--all", action="store_true", help="also bases, common parts and test configs")
    p.add_argument(
        "--sort", default="name", help="name, box_ap, other_ap, train_seconds, infer_seconds, train_memory"
    )
    p.add_argument(
        "--licence",
        choices=["permissive", "commercial"],
        default="",
        help="only published weights whose code, weights and data are under MIT, BSD, Apache or CC BY (permissive), or also "
        "CC BY-SA (commercial)",
    )
    p.add_argument("--show", metavar="NAME", help="print this config, resolved")
    p.add_argument(
        "--form", choices=["yaml", "py", "source"], help="how to print it (default: in its own format)"
    )
    p.add_argument("--json", action="store_true", help="print the list as JSON")


def _config(p: argparse.ArgumentParser) -> None:
    p.add_argument("action", choices=["show", "diff"])
    p.add_argument(
        "inputs",
        nargs="*",
        metavar="CONFIG",
        help="files, runs or names in the zoo; for `show`, one of them and then overrides",
    )
    p.add_argument("--form", choices=["yaml", "py"], help="how to print it (default: yaml)")


def _data(p: argparse.ArgumentParser) -> None:
    p.add_argument("action", choices=["import", "check", "show", "stats", "convert", "split", "sample"])
    p.add_argument(
        "inputs",
        nargs="+",
        metavar="DATA",
        help="labels: a file or a folder of any known format; for `sample` the folder to write",
    )
    _labels(p)
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


def _replay(p: argparse.ArgumentParser) -> None:
    p.add_argument("batch", help="a file of bad_batches/, or the folder of a run, for its last one")
    p.add_argument("--config-file", metavar="FILE", help="config of the training (default: the run's own)")
    p.add_argument("--device", default="cpu", help="cpu, cuda … (default: %(default)s)")
    p.add_argument("--dtype", help="float32, float16 or bfloat16 (default: that of the training)")
    _overrides(p)


def _labels(p: argparse.ArgumentParser) -> None:
    p.add_argument("--format", help="format of the labels (default: detected)")
    p.add_argument("--images", metavar="DIR", help="image folder, if it is not where the format expects it")
    p.add_argument("--task", help="for yolo: detect, segment, pose, obb (default: detected)")


def _tiles(p: argparse.ArgumentParser, what: str) -> None:
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


def _examples(p: argparse.ArgumentParser, *commands: str) -> None:
    """Show example commands at the end of a sub-command's help."""
    p.formatter_class = argparse.RawDescriptionHelpFormatter
    p.epilog = "examples:\n" + "\n".join(f"  {command}" for command in commands)


def _overwrite(p: argparse.ArgumentParser) -> None:
    p.add_argument("--overwrite", action="store_true", help="remove the run in --output and start a new one")


def _trust(p: argparse.ArgumentParser) -> None:
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


def _overrides(p: argparse.ArgumentParser) -> None:
    _trust(p)
    p.add_argument(
        "opts",
        nargs="*",
        metavar="KEY VALUE",
        help="config keys, such as SOLVER.BASE_LR 0.001 or SOLVER.BASE_LR=0.001",
    )


COMMANDS = {
    "quickstart": Command(
        "train, evaluate and explain a small Mask R-CNN on a built-in image",
        _quickstart,
        "detectron2.cli.commands.quickstart:run",
    ),
    "train": Command(
        "train a model on your data, evaluate it and write a report",
        _train,
        "detectron2.cli.commands.train:run",
    ),
    "eval": Command("evaluate a trained model", _eval, "detectron2.cli.commands.eval:run"),
    "predict": Command(
        "run a model on images and videos, and draw its predictions",
        _predict,
        "detectron2.cli.commands.predict:run",
    ),
    "serve": Command(
        "answer HTTP requests with what a model finds in their pictures",
        _serve,
        "detectron2.cli.commands.serve:run",
    ),
    "export": Command(
        "write a model as ONNX, OpenVINO, torch.export … and prove that the file gives what the model gives",
        _export,
        "detectron2.cli.commands.export:run",
    ),
    "data": Command(
        "import, check, show, convert and split labels of any format, or write a small sample",
        _data,
        "detectron2.cli.commands.data:run",
    ),
    "replay": Command(
        "run a step with a NaN or infinite loss again, and find where it began",
        _replay,
        "detectron2.cli.commands.replay:run",
    ),
    "analyze": Command(
        "say what a model costs, module by module: parameters, flops, activations, memory, time",
        _analyze,
        "detectron2.cli.commands.analyze:run",
    ),
    "zoo": Command(
        "list the model zoo, or print one of its configs", _zoo, "detectron2.cli.commands.zoo:run"
    ),
    "config": Command("show and compare configs", _config, "detectron2.cli.commands.config:run"),
    "doctor": Command(
        "check this environment and say what to do", _doctor, "detectron2.cli.commands.doctor:run"
    ),
}
