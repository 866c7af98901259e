"""The recorded session: its commands still work, and print what they printed."""

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
# The demo's training is minutes long; its model need not be good here.
SHORT = ["SOLVER.MAX_ITER", "8", "SOLVER.STEPS", "()", "TEST.EVAL_PERIOD", "0", "SOLVER.CHECKPOINT_PERIOD", "8",
         "INPUT.MIN_SIZE_TRAIN", "[96]", "INPUT.MIN_SIZE_TEST", "96"]  # fmt: skip


def _tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("session", ROOT / "tools/session.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


tool = _tool()


def recorded() -> dict[str, list[str]]:
    """Return the lines after each command of the page, without the line of its seconds."""
    text = (ROOT / "docs/session.txt").read_text(encoding="utf-8")
    found = {}
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        command, *lines = part.rstrip().splitlines()
        assert re.fullmatch(r"# \d+ s", lines[-1]), command
        found[command] = lines[:-1]
    return found


def test_five_commands_are_recorded_and_shown_in_the_page() -> None:
    assert list(recorded()) == list(tool.COMMANDS)
    assert len(tool.COMMANDS) == 5
    page = (ROOT / "docs/first-hour.md").read_text(encoding="utf-8")
    assert "session.txt" in page
    assert all(command.split(" --")[0] in page for command in tool.COMMANDS)


def test_shapes_forget_numbers_and_repetitions() -> None:
    lines = [
        "  step   25 of 200   loss  2.166   0:40:02 left",
        "  step    1 of 8   loss 12.000   0:00:02 left",
    ]
    assert len(tool.shape(lines)) == 1
    assert tool.shape(["| apple | 0.5 |"]) == tool.shape(["| apple | nan |"])
    assert tool.shape(["apple 0.312 ███▍"]) == tool.shape(["apple 0.000"])
    assert tool.shape(["box AP 0.3"]) != tool.shape(["mask AP 0.3"])


def test_long_outputs_are_cut_and_lose_their_dates() -> None:
    lines = [f"[11/28 22:02:20 d2.engine]: line {i}" for i in range(40)]
    shown = tool.shown(lines)
    assert len(shown) == tool.HEAD + 1 + tool.TAIL
    assert shown[0] == "[d2.engine] line 0"
    assert tool.shown(lines[:3])[2] == "[d2.engine] line 2"


def test_a_line_that_is_no_longer_printed_is_named() -> None:
    printed = [f"{i} apples" for i in range(9)] + [
        "box AP 0.0",
        "WARNING: the model found nothing",
        "see page 3",
    ]
    assert tool.missing(["7 apples", "…", "box AP 0.3", "see page 1"], printed) == ""
    assert tool.missing(["box AP 0.3", "7 apples"], printed) == "apples"
    assert tool.missing(["mask AP 0.3"], printed) == "mask AP"


@pytest.mark.slow
@pytest.mark.docs
def test_the_session_can_be_repeated(tmp_path: Path) -> None:
    tool.prepare(tmp_path)
    for command, lines in recorded().items():
        printed, _ = tool.perform(tmp_path, command, SHORT if command == tool.COMMANDS[0] else ())
        text = tool.missing(lines, printed)
        assert not text, f"{command} no longer prints {text!r}:\n" + "\n".join(printed)
    assert (tmp_path / "runs/photos/model.onnx").is_file()
