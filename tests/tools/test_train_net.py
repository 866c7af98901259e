"""`train_net.py`, `plain_train_net.py` and `lazyconfig_train_net.py` from the command line."""

import importlib.util
import json
import re
import runpy
from pathlib import Path

import pytest
import torch

from detectron2.checkpoint import read_checkpoint_file
from detectron2.config import get_cfg


def rows(folder):
    """Figures of `metrics.json` by iteration."""
    merged = {}
    for line in (folder / "metrics.json").read_text().splitlines():
        row = json.loads(line)
        merged.setdefault(row["iteration"], {}).update(row)
    return merged


def last_ap(output):
    """The last line of figures that was printed for boxes."""
    return re.findall(r"copypaste: Task: bbox\n.*\n.*copypaste: (\S+)", output)[-1]


def test_help_of_the_command_line(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["train_net.py", "--help"])
    with pytest.raises(SystemExit):
        runpy.run_path(str(Path(__file__).parents[2] / "tools/train_net.py"), run_name="__main__")
    text = capsys.readouterr().out
    for option in ("--config-file", "--num-gpus", "--num-machines", "--eval-only", "--resume", "--dist-url"):
        assert option in text


def test_plain_loop_takes_one_batch_for_each_iteration(monkeypatch, tmp_path):
    path = Path(__file__).parents[2] / "tools/plain_train_net.py"
    spec = importlib.util.spec_from_file_location("plain_train_net", path)
    plain = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(plain)

    class Net(torch.nn.Linear):
        def forward(self, batch):
            return {"loss": self.weight.sum() * batch}

    batches = iter(range(9))
    monkeypatch.setattr(plain, "build_detection_train_loader", lambda cfg: batches)
    monkeypatch.setattr(plain, "do_test", lambda cfg, model: {})
    cfg = get_cfg()
    cfg.merge_from_list(["SOLVER.MAX_ITER", 4, "SOLVER.STEPS", (), "OUTPUT_DIR", str(tmp_path)])
    plain.do_train(cfg, Net(2, 1))
    assert next(batches) == 4


@pytest.mark.slow
@pytest.mark.parametrize("program", ["train_net", "plain_train_net", "lazyconfig_train_net"])
def test_a_missing_config_is_named(run_tool, program):
    ending = "py" if program.startswith("lazy") else "yaml"
    text = run_tool(f"tools/{program}.py", "--config-file", f"absent.{ending}", expect=1)
    assert f"absent.{ending}" in text.splitlines()[-1]


@pytest.mark.slow
@pytest.mark.parametrize("program", ["train_net", "plain_train_net"])
def test_yaml_trains_resumes_and_evaluates(run_tool, tiny_yaml, tmp_path, program):
    tool, out = f"tools/{program}.py", tmp_path / "out"
    base = ("--config-file", tiny_yaml, "--num-gpus", 1)
    run_tool(tool, *base, "OUTPUT_DIR", out, "SOLVER.MAX_ITER", 4)
    assert {"model_0000001.pth", "model_0000003.pth", "model_final.pth", "config.yaml", "log.txt"} <= {
        p.name for p in out.iterdir()
    }
    assert {"total_loss", "loss_mask", "lr"} <= set(rows(out)[3])

    log = run_tool(tool, *base, "--resume", "OUTPUT_DIR", out, "SOLVER.MAX_ITER", 6)
    assert read_checkpoint_file(out / "model_final.pth")["iteration"] == 5
    assert "iteration 4" in log and set(rows(out)) >= {3, 5}

    after = run_tool(tool, *base, "--eval-only", "--resume", "OUTPUT_DIR", out)
    assert last_ap(after) == last_ap(log)
    named = run_tool(
        tool,
        *base,
        "--eval-only",
        "MODEL.WEIGHTS",
        out / "model_final.pth",
        "OUTPUT_DIR",
        tmp_path / "elsewhere",
    )
    assert last_ap(named) == last_ap(log)
    assert (tmp_path / "elsewhere/inference").is_dir()


@pytest.mark.slow
@pytest.mark.parametrize("program", ["train_net", "lazyconfig_train_net"])
def test_python_config_trains_resumes_and_evaluates(run_tool, tiny_py, tmp_path, program):
    tool, out = f"tools/{program}.py", tmp_path / "out"
    base = ("--config-file", tiny_py, "--num-gpus", 1)
    run_tool(tool, *base, f"train.output_dir={out}", "optimizer.lr=0.0005")
    assert "lr: 0.0005" in (out / "config.yaml").read_text()
    log = run_tool(tool, *base, "--resume", f"train.output_dir={out}", "train.max_iter=6")
    assert read_checkpoint_file(out / "model_final.pth")["iteration"] == 5
    after = run_tool(
        tool, *base, "--eval-only", f"train.output_dir={out}", f"train.init_checkpoint={out}/model_final.pth"
    )
    assert last_ap(after) == last_ap(log)


@pytest.mark.slow
def test_misspelt_override_names_the_right_key(run_tool, tiny_yaml):
    text = run_tool("tools/train_net.py", "--config-file", tiny_yaml, "SOLVER.BASE_LRR", "0.1", expect=1)
    assert "SOLVER.BASE_LR" in text.splitlines()[-1]
