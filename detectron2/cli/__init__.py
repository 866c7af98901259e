"""The command ``detectron2``: one argument parser, and one module for each sub-command.

Only the parser is imported until a sub-command runs, so that ``--help`` is fast.
"""

import io
import os
import sys
from collections.abc import Sequence
from importlib import import_module

from .arguments import parse
from .errors import UserError, problem_of

__all__ = ["UserError", "main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one sub-command.

    Args:
        argv: words of the command line after the program's name; by default those of this process.

    Returns:
        The exit status: 0 success, 1 the command found a problem, 2 bad input or a missing resource of the machine,
        130 interrupted, 141 the output pipe was closed.
    """
    _replace_unprintable()
    args = parse(argv)
    # Must be set before torch is imported: waiting threads must sleep, or another busy program on the machine slows each
    # step down several times.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    trace = args.traceback or bool(os.environ.get("DETECTRON2_TRACEBACK"))
    try:
        module, function = args.run.split(":")
        run = getattr(import_module(module), function)
        if not hasattr(args, "trust"):  # the command reads no config
            code = int(run(args) or 0)
        else:
            with import_module("detectron2.cli.run.trust").trusting(args.imports, args.trust):
                code = int(run(args) or 0)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # Python flushes stdout again at exit, which would fail for the closed pipe.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except Exception as error:
        problem = problem_of(error)
        if trace or problem is None:  # without a known problem, it is a bug of ours, whose traceback we need
            raise
        print(f"detectron2 {args.command}: {problem}", file=sys.stderr)
        if not isinstance(error, UserError):
            print("(DETECTRON2_TRACEBACK=1 shows where this comes from)", file=sys.stderr)
        return 2


def _replace_unprintable() -> None:
    """Print "?" for letters that the terminal's code page does not have, instead of ending with an error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
