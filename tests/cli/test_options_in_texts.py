"""Every option that a page or a message names exists."""

import argparse
import ast
import functools
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from detectron2.cli.arguments import COMMANDS, build_parser

ROOT = Path(__file__).resolve().parents[2]
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z0-9_-]*[a-z0-9]")
CALL = re.compile(r"detectron2 (" + "|".join(COMMANDS) + r")\b([^`\n|;#]*)")
# Of programs that are not ours, and a variable of a style sheet.
OTHERS = {
    "--data-binary", "--no-index", "--find-links",
    "--force-reinstall", "--upgrade", "--shm-size", "--standalone", "--nproc-per-node", "--max-restarts", "--nnodes", "--rdzv-endpoint",
    "--rdzv-backend", "--extra-index-url", "--index-url", "--no-deps", "--no-build-isolation", "--version", "--help", "--node-rank",
    "--master-addr", "--master-port", "--editable", "--local-addr", "--cpus-per-task", "--gpus-per-node", "--nodes", "--signal",
    "--onnx", "--fp16", "--save", "--ntasks-per-node", "--rdzv-conf", "--rdzv-id", "--strict", "--shade",
    "--array",
}  # fmt: skip


def options_of(parser: argparse.ArgumentParser) -> set[str]:
    return {o for action in parser._actions for o in action.option_strings}


def parsers() -> dict[str, argparse.ArgumentParser]:
    subs = next(a for a in build_parser()._actions if isinstance(a, argparse._SubParsersAction))
    return dict(subs.choices)


@functools.cache
def texts() -> list[tuple[str, str]]:
    return list(_texts())


def _texts() -> Iterator[tuple[str, str]]:
    """Pages, and the texts that the code can print, without its docstrings."""
    for path in (*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")):
        yield str(path.relative_to(ROOT)), path.read_text(encoding="utf-8").replace("\\\n", " ")
    for path in (ROOT / "detectron2").rglob("*.py"):
        code = path.read_text(encoding="utf-8")
        if "--" not in code and "detectron2 " not in code:
            continue
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.JoinedStr):
                parts = [v.value if isinstance(v, ast.Constant) else "X" for v in node.values]
                yield str(path.relative_to(ROOT)), "".join(map(str, parts))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield str(path.relative_to(ROOT)), node.value


def declared() -> set[str]:
    """Options of all programs of the repository, ours of the command line among them."""
    found = set(OTHERS).union(*(options_of(p) for p in parsers().values()))
    programs = [*ROOT.glob("tools/**/*.py"), *ROOT.glob("demo/*.py"), *ROOT.glob("benchmarks/**/*.py")]
    programs += [
        *ROOT.glob("datasets/*.py"),
        *ROOT.glob("tests/**/*.py"),
        *(ROOT / "detectron2").rglob("*.py"),
    ]
    for path in programs:
        found.update(re.findall(rf"""["']({OPTION.pattern})["']""", path.read_text(encoding="utf-8")))
    return found


def test_options_that_texts_name_exist() -> None:
    known = declared()
    wrong = {
        (place, option) for place, text in texts() for option in OPTION.findall(text) if option not in known
    }
    assert not wrong


def test_commands_in_texts_have_the_options_that_are_given_to_them() -> None:
    own = {name: options_of(parser) for name, parser in parsers().items()}
    wrong = {
        (place, command, option)
        for place, text in texts()
        for command, rest in CALL.findall(text)
        for option in OPTION.findall(rest.split(" detectron2 ")[0])
        if option not in own[command]
    }
    assert not wrong


def test_a_mistyped_word_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    for words, near in (
        (["trian"], "train"),
        (["train", "--trian", "x"], "--train"),
        (["train", "--train", "x", "--batchsize=3"], "--batch-size"),
        (["data", "shwo", "x"], "show"),
        (["zoo", "--form", "yml"], "yaml"),
    ):
        with pytest.raises(SystemExit) as stop:
            build_and_parse(words)
        assert stop.value.code == 2
        assert near in capsys.readouterr().err.splitlines()[-1]


def build_and_parse(words: list[str]) -> None:
    from detectron2.cli.arguments import parse

    parse(words)
