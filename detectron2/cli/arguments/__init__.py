"""All arguments of all sub-commands, without slow imports."""

import argparse
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NoReturn

from detectron2 import __version__
from detectron2.utils.suggest import closest, did_you_mean

from .models import analyze_arguments, export_arguments, predict_arguments, serve_arguments, zoo_arguments
from .others import config_arguments, data_arguments, doctor_arguments, new_arguments
from .training import eval_arguments, quickstart_arguments, replay_arguments, train_arguments

__all__ = ["COMMANDS", "build_parser", "parse"]


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


COMMANDS = {
    "quickstart": Command(
        "train, evaluate and explain a small Mask R-CNN on built-in pictures, and show it in a video",
        quickstart_arguments,
        "detectron2.cli.commands.quickstart:run",
    ),
    "train": Command(
        "train a model on your data, evaluate it and write a report",
        train_arguments,
        "detectron2.cli.commands.train:run",
    ),
    "new": Command(
        "write a small project of your own: data, head, augmentation, configs, tests",
        new_arguments,
        "detectron2.cli.commands.new:run",
    ),
    "eval": Command("evaluate a trained model", eval_arguments, "detectron2.cli.commands.eval:run"),
    "predict": Command(
        "run a model on images and videos, and draw its predictions",
        predict_arguments,
        "detectron2.cli.commands.predict:run",
    ),
    "serve": Command(
        "answer HTTP requests with what a model finds in their pictures",
        serve_arguments,
        "detectron2.cli.commands.serve:run",
    ),
    "export": Command(
        "write a model as ONNX, OpenVINO, torch.export … and prove that the file gives what the model gives",
        export_arguments,
        "detectron2.cli.commands.export:run",
    ),
    "data": Command(
        "import, check, show, convert and split labels of any format, or write a small sample",
        data_arguments,
        "detectron2.cli.commands.data:run",
    ),
    "replay": Command(
        "run a step with a NaN or infinite loss again, and find where it began",
        replay_arguments,
        "detectron2.cli.commands.replay:run",
    ),
    "analyze": Command(
        "say what a model costs, module by module: parameters, flops, activations, memory, time",
        analyze_arguments,
        "detectron2.cli.commands.analyze:run",
    ),
    "zoo": Command(
        "list the model zoo, or print one of its configs", zoo_arguments, "detectron2.cli.commands.zoo:run"
    ),
    "config": Command("show and compare configs", config_arguments, "detectron2.cli.commands.config:run"),
    "doctor": Command(
        "check this environment and say what to do", doctor_arguments, "detectron2.cli.commands.doctor:run"
    ),
}
