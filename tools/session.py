"""Record the terminal session of docs/session.txt: from the demo to a model of your own, evaluated and exported.

    python tools/session.py FOLDER > docs/session.txt

FOLDER is new; the commands run in it. Long outputs are cut in the middle. A test runs the same commands with a shorter first
training and compares what they print, without the numbers.
"""

import re
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from detectron2.data.toys import write_toys

__all__ = ["COMMANDS", "missing", "perform", "prepare", "shape", "shown"]

COMMANDS = (
    "detectron2 quickstart",
    "detectron2 data check photos",
    "detectron2 train --train photos --model output/quickstart/config.yaml "
    "--weights output/quickstart/model_best.pth --epochs 4 --output runs/photos",
    "detectron2 eval runs/photos",
    "detectron2 export runs/photos --to onnx",
)
HEAD, TAIL = 6, 8  # lines of an output that are kept
_PROGRESS = re.compile(r"Inference \d+/\d+")  # printed every few seconds, so only by slow machines
_STAMP = re.compile(r"^\[\d\d/\d\d [\d:]+ ([\w.]+)\]:?")


def prepare(folder: Path) -> None:
    """Draw the pictures that stand for yours, ``photos/``, with labels in COCO's form."""
    write_toys(folder / "drawn", {"photos": 24}, toys=5)
    (folder / "photos").mkdir()
    (folder / "drawn/photos").rename(folder / "photos/images")
    (folder / "drawn/photos.json").rename(folder / "photos/labels.json")


def perform(folder: Path, command: str, extra: Sequence[str] = ()) -> tuple[list[str], float]:
    """Run one command and return the lines that it prints, and its seconds.

    Raises:
        RuntimeError: if it fails.
    """
    start = time.perf_counter()
    words = [sys.executable, "-m", *command.split(), *extra]
    done = subprocess.run(words, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        raise RuntimeError(f"{command} failed:\n{done.stdout}")
    lines = [line for line in done.stdout.splitlines() if not _PROGRESS.search(line)]
    return lines, time.perf_counter() - start


def shown(lines: Sequence[str]) -> list[str]:
    """Return the lines that the session shows: without dates, and without the middle of a long output."""
    plain = [_STAMP.sub(r"[\1]", line).rstrip() for line in lines]
    return [*plain[:HEAD], "…", *plain[-TAIL:]] if len(plain) > HEAD + TAIL + 1 else plain


def shape(lines: Sequence[str]) -> list[str]:
    """Return what two runs have in common: texts without dates, numbers, bars and spaces; equal neighbours count once."""
    found: list[str] = []
    for line in lines:
        text = _STAMP.sub(r"[\1]", line)
        text = re.sub(r"[-+]?\d[\d.:e+-]*|\bnan\b|[█▏▎▍▌▋▊▉]+", " ", text)
        text = re.sub(r"[\s|:-]+", " ", text).strip()
        if not found or found[-1] != text:
            found.append(text)
    return found


def missing(recorded: Sequence[str], printed: Sequence[str]) -> str:
    """Return the first recorded line that another run does not print, in this order and but for numbers; empty if none.

    Args:
        recorded: lines that :func:`shown` has returned.
        printed: all lines of another run of the command.
    """
    rest = iter(shape(printed))
    for text in shape([line for line in recorded if line != "…"]):
        if text not in rest:  # goes on until it finds the text
            return text
    return ""


def main() -> None:
    """Run the session and print it."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True)
    prepare(folder)
    for command in COMMANDS:
        lines, seconds = perform(folder, command)
        print(f"$ {command}", *shown(lines), f"# {seconds:.0f} s", "", sep="\n", flush=True)


if __name__ == "__main__":
    main()
