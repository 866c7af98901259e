"""A training that is killed and started again ends with the same bits as one that was not."""

import json

import pytest
import torch

from detectron2.checkpoint import read_checkpoint_file

OPTS = (
    "SOLVER.EMA.ENABLED", "True", "SOLVER.EMA.DECAY", "0.9", "SOLVER.ACCUMULATE_STEPS", "2", "SOLVER.MAX_ITER", "30",
    "SOLVER.CHECKPOINT_KEEP", "2", "SOLVER.STEPS", "(20,)", "SOLVER.EARLY_STOPPING.METRIC", "tiny/score",
    "SOLVER.EARLY_STOPPING.PATIENCE", "9",
)  # fmt: skip


def assert_same(a, b, path=""):
    """Same structure, same bits."""
    assert type(a) is type(b), path
    if isinstance(a, dict):
        assert list(a) == list(b), path
        for key in a:
            assert_same(a[key], b[key], f"{path}.{key}")
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b), path
        for i, (x, y) in enumerate(zip(a, b)):
            assert_same(x, y, f"{path}[{i}]")
    elif isinstance(a, torch.Tensor):
        assert torch.equal(a, b), path
    else:
        assert a == b, path


@pytest.mark.slow
def test_killed_and_resumed_equals_unbroken(tmp_path, run_worker):
    run_worker(tmp_path / "whole", *OPTS)
    broken = tmp_path / "broken"
    # In a step; half-way through writing a checkpoint; in the evaluation that follows a checkpoint.
    for i, die in enumerate(["step:7", "save:14", "eval:19", "step:26"]):
        run_worker(broken, *(["--resume"] if i else []), *OPTS, die=die)
    log = run_worker(broken, "--resume", *OPTS)
    assert "Resuming from" in log
    a = read_checkpoint_file(tmp_path / "whole/out/model_final.pth")
    b = read_checkpoint_file(broken / "out/model_final.pth")
    for key in ("model", "iteration", "trainer"):
        assert_same(a[key], b[key], key)
    assert_same(
        read_checkpoint_file(tmp_path / "whole/out/model_ema.pth")["model"],
        read_checkpoint_file(broken / "out/model_ema.pth")["model"],
    )
    assert_same(
        read_checkpoint_file(tmp_path / "whole/out/model_best.pth")["model"],
        read_checkpoint_file(broken / "out/model_best.pth")["model"],
    )
    # The curves agree too, where an iteration was done twice in its last form.
    curves = []
    for folder in (tmp_path / "whole", broken):
        rows = [json.loads(line) for line in (folder / "out/metrics.json").read_text().splitlines()]
        curves.append({r["iteration"]: r["tiny/score"] for r in rows if "tiny/score" in r})
    assert curves[0] == curves[1]
    kept = sorted(p.name for p in (broken / "out").glob("model_0*.pth"))
    assert kept == ["model_0000024.pth", "model_0000029.pth"]
    assert not list((broken / "out").glob(".*.tmp"))


@pytest.mark.slow
def test_deterministic_mode_gives_equal_bits_over_200_iterations(tmp_path, run_worker):
    opts = (
        "DETERMINISTIC",
        "True",
        "SOLVER.MAX_ITER",
        "200",
        "TEST.EVAL_PERIOD",
        "60",
        "SOLVER.EMA.ENABLED",
        "True",
    )
    found = []
    for workers in (0, 2):  # which must not matter either
        folder = tmp_path / str(workers)
        run_worker(folder, *opts, "DATALOADER.NUM_WORKERS", workers)
        found.append(
            [read_checkpoint_file(folder / "out" / n)["model"] for n in ("model_final.pth", "model_ema.pth")]
        )
        found[-1].append({"losses": (folder / "losses.txt").read_text().splitlines()})
    assert len(found[0][2]["losses"]) == 200
    assert_same(*found)
