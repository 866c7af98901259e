"""`benchmark.py` and the example for Lightning, each task on the drawn pictures."""

import importlib.util
import re

import pytest

from detectron2.checkpoint import read_checkpoint_file


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "said"),
    [
        ("data", r"\d+\.\d+ images/s"),
        ("data_advanced", r"loader with 0 workers: .* elements/s"),
        ("train", r"timed iterations at \d+\.\d+ s each"),
        ("eval", r"median +\| +\d+\.\d+"),
    ],
)
def test_every_task_gives_its_figure(run_tool, tiny_yaml, tmp_path, task, said):
    text = run_tool(
        "tools/benchmark.py", "--config-file", tiny_yaml, "--num-gpus", 1, "--task", task, "--iters", 8,
        "OUTPUT_DIR", tmp_path / "out",
    )  # fmt: skip
    assert re.search(said, text), text[-3000:]


@pytest.mark.slow
def test_python_config(run_tool, tiny_py):
    text = run_tool(
        "tools/benchmark.py", "--config-file", tiny_py, "--task", "train", "--iters", 6, "optimizer.lr=0.0001"
    )
    assert "timed iterations" in text


@pytest.mark.slow
def test_eval_only_is_refused(run_tool, tiny_yaml):
    text = run_tool(
        "tools/benchmark.py", "--config-file", tiny_yaml, "--task", "train", "--eval-only", expect=2
    )
    assert "--task eval" in text


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("lightning") is None, reason="lightning is not installed")
def test_lightning_trains_resumes_and_evaluates(run_tool, tiny_yaml, tmp_path):
    tool, out = "tools/lightning_train_net.py", tmp_path / "out"
    base = ("--config-file", tiny_yaml, "--num-gpus", 0)
    tail = ("OUTPUT_DIR", out)
    text = run_tool(tool, *base, *tail)
    assert text.count("copypaste: Task: bbox") == 2  # every two of four steps
    assert (out / "last.ckpt").is_file() and read_checkpoint_file(out / "model_final.pth")["model"]
    text = run_tool(tool, *base, "--resume", *tail, "SOLVER.MAX_ITER", 6)
    assert text.count("copypaste: Task: bbox") == 1
    resumed = run_tool(tool, *base, "--eval-only", "--resume", *tail)
    named = run_tool(tool, *base, "--eval-only", *tail, "MODEL.WEIGHTS", out / "model_final.pth")
    figures = [re.findall(r"copypaste: [\d.,-]+", part) for part in (text, resumed, named)]
    assert figures[0] == figures[1] == figures[2] != []


@pytest.mark.slow
def test_the_benchmark_for_gpus_runs_on_a_cpu(run_tool):
    text = run_tool("benchmarks/gpu.py", "--tiny")
    row = (
        r"^(.+?) +(torchvision|detectron2) +(\w+) +(float32|bfloat16) +(training|prediction) +[\d.]+ images/s"
    )
    found = {}
    for name, maker, form, *_ in re.findall(row, text, re.MULTILINE):
        found.setdefault(name, []).append((maker, form))
    with_fast_form = ("Faster R-CNN", "Mask R-CNN", "Keypoint R-CNN")
    assert set(found) == {*with_fast_form, "RetinaNet", "FCOS"}, text[-3000:]
    for name, rows in found.items():
        ours = ("eager", "fixed", "compiled") if name in with_fast_form else ("eager", "compiled")
        wanted = [
            ("detectron2", form) for form in ours for _ in range(4)
        ]  # two precisions, two kinds of work
        assert rows == [("torchvision", "eager")] * 2 + wanted


@pytest.mark.slow
def test_the_benchmark_for_gpus_ends_when_its_time_is_up(run_tool):
    text = run_tool("benchmarks/gpu.py", "--tiny", "--minutes", 0.001)
    assert text.count("not measured in full, the time is up") > 8
    assert re.search(r"^FCOS +detectron2 +compiled +not measured", text, re.MULTILINE)
