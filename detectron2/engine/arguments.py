"""Command line of the training programs."""

from __future__ import annotations

import argparse
import sys

__all__ = ["default_argument_parser"]


def default_argument_parser(epilog: str | None = None) -> argparse.ArgumentParser:
    """Build a parser with the arguments that training programs share.

    Args:
        epilog: text at the end of ``--help``; None shows examples.

    Returns:
        A parser that collects all words after the arguments (``KEY VALUE …`` for a YAML config, ``path.key=value …``
        for a Python config) in ``opts``.
    """
    program = sys.argv[0]
    examples = f"""Examples:

one machine:
    $ {program} --num-gpus 8 --config-file cfg.yaml

change options:
    $ {program} --config-file cfg.yaml MODEL.WEIGHTS /path/to/weight.pth SOLVER.BASE_LR 0.001

several machines:
    (machine 0)$ {program} --machine-rank 0 --num-machines 2 --dist-url tcp://HOST0:PORT [the rest]
    (machine 1)$ {program} --machine-rank 1 --num-machines 2 --dist-url tcp://HOST0:PORT [the rest]

under torchrun, which numbers machines and processes itself:
    $ torchrun --nproc-per-node 8 {program} --config-file cfg.yaml
"""
    parser = argparse.ArgumentParser(
        epilog=epilog or examples, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config-file", default="", metavar="FILE", help="config: .yaml or .py")
    parser.add_argument(
        "--resume", action="store_true", help="resume from the last complete checkpoint of the output folder"
    )
    parser.add_argument("--eval-only", action="store_true", help="evaluate, do not train")
    parser.add_argument("--num-gpus", type=int, default=1, help="processes on this machine, one per GPU")
    parser.add_argument("--num-machines", type=int, default=1, help="number of machines")
    parser.add_argument("--machine-rank", type=int, default=0, help="number of this machine, from 0")
    parser.add_argument(
        "--dist-url",
        default="auto",
        help="tcp://HOST:PORT of machine 0; auto picks a free port on a single machine",
    )
    parser.add_argument(
        "opts",
        nargs=argparse.REMAINDER,
        help="options to change, at the end: 'KEY VALUE' pairs for YAML, 'path.key=value' for Python configs",
    )
    return parser
