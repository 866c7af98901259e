"""``--help`` of each command ends with two examples, which are understood; those that are offline and quick run."""

import contextlib
import io
import shlex
import shutil
from pathlib import Path

import pytest

from detectron2.cli import main
from detectron2.cli.arguments import COMMANDS, parse
from detectron2.data.toys import write_toys

from .conftest import TINY

SMALL = "--model tiny.yaml --weights none --epochs 1 --batch-size 2 --workers 0 --device cpu".split()


def examples(command: str) -> list[str]:
    out = io.StringIO()
    with contextlib.redirect_stdout(out), pytest.raises(SystemExit) as stop:
        parse([command, "--help"])
    assert stop.value.code == 0
    text = out.getvalue()
    assert "\nexamples:\n" in text, f"{command} --help shows no examples"
    return [line.strip() for line in text.partition("\nexamples:\n")[2].strip().splitlines()]


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_shows_two_examples_that_are_understood(command: str) -> None:
    found = examples(command)
    assert len(found) == 2
    for line in found:
        words = shlex.split(line)
        assert words[:2] == ["detectron2", command] and parse(words[1:]).command == command


@pytest.mark.parametrize("command", ["config", "zoo", "data", pytest.param("new", marks=pytest.mark.slow)])
def test_quick_examples_run(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_toys("toys", {"train": 2, "val": 1})
    for line in examples(command):
        differ = 1 if " diff " in line else 0  # as the command of that name
        assert main(shlex.split(line)[1:]) == differ, line


@pytest.mark.slow
def test_examples_with_a_run_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The training of the first example is made small; the commands below take its run for the runs that they name."""
    monkeypatch.chdir(tmp_path)
    write_toys("toys", {"train": 4, "val": 2})
    shutil.copytree("toys/val", "photos")
    Path("tiny.yaml").write_text(TINY, encoding="utf-8")
    first = shlex.split(examples("train")[0])[1:]
    assert main([*first, *SMALL, "MODEL.ROI_HEADS.SCORE_THRESH_TEST", "0.0"]) == 0
    for command in ("eval", "predict", "analyze"):
        line = next(e for e in examples(command) if " runs/" in e)
        words = ["runs/toys" if w.startswith("runs/") else w for w in shlex.split(line)[1:]]
        words = ["toys/val/0001.jpg" if w.endswith("42.png") else w for w in words]
        assert main(words) == 0, line
