"""The command line's grammar, and that help needs nothing heavy."""

import json
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from PIL import Image

from detectron2.cli import main
from detectron2.cli.arguments import COMMANDS, parse


@pytest.mark.parametrize(
    "words",
    [
        ["train", "--train", "x", "K", "V", "--output", "z"],
        ["train", "K", "V", "--train", "x", "--output", "z"],
        ["train", "--train", "x", "--output", "z", "K", "V"],
    ],
)
def test_overrides_may_stand_anywhere(words: list[str]) -> None:
    args = parse(words)
    assert (args.train, args.output, args.opts) == ("x", "z", ["K", "V"])


def test_words_after_options_join_those_before() -> None:
    assert parse(["predict", "m", "a", "--output", "o", "b"]).inputs == ["a", "b"]
    assert parse(["eval", "m", "--data", "d", "K", "V"]).opts == ["K", "V"]


def test_unknown_option_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        parse(["train", "--trian", "x"])
    assert stop.value.code == 2
    assert "--trian" in capsys.readouterr().err


def test_words_where_none_belong_are_refused() -> None:
    with pytest.raises(SystemExit):
        parse(["doctor", "now"])


@pytest.mark.parametrize("command", list(COMMANDS))
def test_every_command_has_help_and_code(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    from importlib import import_module

    with pytest.raises(SystemExit) as stop:
        parse([command, "--help"])
    assert stop.value.code == 0
    assert COMMANDS[command].help.split()[0] in capsys.readouterr().out
    module, function = COMMANDS[command].run.split(":")
    assert callable(getattr(import_module(module), function))


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom detectron2.cli import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        "heavy = {'torch', 'numpy', 'PIL', 'omegaconf', 'rich'} & set(sys.modules)\nassert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "quickstart" in done.stdout


def test_runs_as_a_module() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "detectron2", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("detectron2 1.")


OWN = """
import torch
class Net(torch.nn.Module):
    def __init__(self, mark):
        super().__init__()
        open(mark, "w").close()
"""


@pytest.mark.parametrize("command", ["predict", "eval", "train"])
def test_configs_name_own_modules_only_by_import_or_trust(
    tmp_path: Path, command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    mark = tmp_path / "mark"
    (tmp_path / "own.py").write_text(OWN)
    net = f"{{_target_: own.Net, mark: {mark}}}"
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.yaml").write_text(f"model: {net}\ntrain: {{device: cpu, output_dir: {run}}}\n")
    part = {"json": "a.json", "images": ".", "num_images": 1, "num_instances": 1}
    card = {"model": "x", "classes": ["a"], "category_ids": [1], "train": part, "val": part}
    (run / "run.json").write_text(json.dumps(card))
    (run / "a.json").write_text('{"images": [], "annotations": [], "categories": [{"id": 1, "name": "a"}]}')
    (run / "model_final.pth").write_bytes(b"")
    Image.new("RGB", (32, 32)).save(tmp_path / "x.png")
    words = {
        "predict": ["predict", "run", "x.png", "--device", "cpu"],
        "eval": ["eval", "run", "--device", "cpu"],
        "train": ["train", "--resume", "--output", "run"],
    }[command]

    def refused(*more: str) -> bool:
        monkeypatch.delitem(sys.modules, "own", raising=False)
        mark.unlink(missing_ok=True)
        with suppress(AttributeError):  # of ``train``: the config has no optimizer
            assert main([*words, *more]) == 2  # the run has no weights
        refusal = "may not" in capsys.readouterr().err
        assert refusal != mark.exists()
        return refusal

    assert refused()
    assert not refused("--import", "own")
    assert refused()
    assert not refused("--trust")
