"""The command ``detectron2``: one argument parser here, one module for each sub-command beside it.

Only the parser is imported until a sub-command runs, so that ``--help`` answers at once.
"""

import os
import sys
from collections.abc import Sequence
from importlib import import_module

from .arguments import parse
from .errors import UserError

__all__ = ["UserError", "main"]

# What bad input raises. Anything else is a defect of ours, and its traceback is wanted.
_INPUT_ERRORS = (UserError, ValueError, KeyError, TypeError, OSError, ImportError)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one sub-command.

    Args:
        argv: words of the command line after the program's name; those of the process by default.

    Returns:
        The exit status: 0 success, 1 the command found a problem, 2 bad input, 130 interrupted.
    """
    args = parse(argv)
    # Before torch is imported: threads that wait must sleep, or a second busy program on the machine makes each step
    # several times as slow.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    trace = args.traceback or bool(os.environ.get("DETECTRON2_TRACEBACK"))
    try:
        module, function = args.run.split(":")
        run = getattr(import_module(module), function)
        if not hasattr(args, "trust"):  # the command reads no config
            return int(run(args) or 0)
        with import_module("detectron2.cli.run.trust").trusting(args.imports, args.trust):
            return int(run(args) or 0)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except _INPUT_ERRORS as error:
        if trace:
            raise
        text = error.args[0] if isinstance(error, KeyError) and error.args else error
        print(f"detectron2 {args.command}: {text}", file=sys.stderr)
        if not isinstance(error, UserError):
            print("(DETECTRON2_TRACEBACK=1 shows where this comes from)", file=sys.stderr)
        return 2
