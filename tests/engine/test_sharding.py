"""Sharded training and checkpoints: several gloo processes against one."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from detectron2.checkpoint import (
    BrokenCheckpointError,
    DetectionCheckpointer,
    UnsafeCheckpointError,
    read_checkpoint_file,
    verify_checkpoint_file,
)
from detectron2.engine.sharding import full_state_dict, load_sharded, save_sharded, shard_model

# The transformer of worker.py, with all that a checkpoint may have to keep: Adam's moments, an average, a best value.
OPTS = (
    "MODEL.META_ARCHITECTURE", "TinyViT", "SOLVER.OPTIMIZER", "AdamW", "SOLVER.BASE_LR", "0.003", "SOLVER.EMA.ENABLED",
    "True", "SOLVER.EMA.DECAY", "0.8", "SOLVER.IMS_PER_BATCH", "6", "SOLVER.CHECKPOINT_PERIOD", "4", "TEST.EVAL_PERIOD", "4",
    "SOLVER.MAX_ITER", "12", "SOLVER.STEPS", "(9,)", "SOLVER.LOG_PERIOD", "2", "DATALOADER.ASPECT_RATIO_GROUPING", "False",
    "INPUT.RANDOM_FLIP", "none", "INPUT.MIN_SIZE_TRAIN", "(24,)", "SOLVER.CLIP_GRADIENTS.ENABLED", "True",
    "SOLVER.CLIP_GRADIENTS.CLIP_TYPE", "full_model", "SOLVER.CLIP_GRADIENTS.CLIP_VALUE", "0.5", "TEST.VAL_LOSS.PERIOD", "4",
    "SOLVER.CHECKPOINT_KEEP", "2",
)  # fmt: skip
SHARDED = ("SOLVER.FSDP.ENABLED", "True")


def run(folder, action, processes):
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("sharding_worker.py")), str(folder), action, str(processes)],
        env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == 0, (done.stdout + done.stderr)[-5000:]
    return torch.load(folder / f"{action}_{processes}.pth")


def close(a, b, tolerance=1e-6):
    return a.keys() == b.keys() and all(torch.allclose(a[k], b[k], atol=tolerance, rtol=1e-4) for k in a)


@pytest.mark.slow
def test_two_processes_equal_one_and_shards_load_on_either(tmp_path):
    whole = run(tmp_path, "whole", 1)
    assert close(run(tmp_path, "whole", 2), whole)
    run(tmp_path, "first", 2)
    assert len(list((tmp_path / "shards").glob("*.distcp"))) == 2
    assert close(run(tmp_path, "second", 2), whole)
    assert close(run(tmp_path, "second", 1), whole)  # another number of processes, Adam's moments included


def torchrun(processes):
    return (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes))


def results(folder):
    """Final weights, average, losses by iteration and scores."""
    rows = (line.split() for line in (folder / "losses.txt").read_text().splitlines())
    return (
        read_checkpoint_file(folder / "out/model_final.pth")["model"],
        read_checkpoint_file(folder / "out/model_ema.pth")["model"],
        {int(i): float(loss) for i, loss in rows},
    )


@pytest.mark.slow
def test_default_trainer_resumes_on_another_number_of_processes(tmp_path, run_worker):
    run_worker(tmp_path / "one", *OPTS)
    whole = results(tmp_path / "one")
    # 2, then 1, then 3 processes, each killed in a step after the next checkpoint.
    broken = tmp_path / "broken"
    run_worker(broken, *OPTS, *SHARDED, launcher=torchrun(2), die="step:5", code=1)
    first = broken / "out/model_0000003.shards"
    assert (broken / "out/last_checkpoint").read_text() == first.name
    assert len(list(first.glob("*.distcp"))) == 2
    verify_checkpoint_file(first)
    log = run_worker(broken, "--resume", *OPTS, *SHARDED, die="step:9")
    assert "at iteration 4 of 12" in log
    # One process wrote an ordinary file, from which a sharded optimizer cannot go on: said, not guessed.
    text = run_worker(broken, "--resume", *OPTS, *SHARDED, launcher=torchrun(2), code=1)
    assert "SOLVER.FSDP.ENABLED False" in text
    for path in broken.glob("out/model_0000007.*"):
        path.unlink()
    log = run_worker(broken, "--resume", *OPTS, *SHARDED, launcher=torchrun(3))
    assert "at iteration 4 of 12" in log and "3 processes" in log
    weights, average, losses = results(broken)
    assert losses.keys() == whole[2].keys()
    assert all(losses[i] == pytest.approx(whole[2][i], rel=1e-3) for i in losses)
    # Adam divides by small moments, so differences of the last bit grow: a step is 0.003.
    assert close(weights, whole[0], 2e-4) and close(average, whole[1], 2e-4)
    assert not any(value is None or hasattr(value, "device_mesh") for value in weights.values())
    best = read_checkpoint_file(broken / "out/model_best.pth")
    assert best["model"].keys() == weights.keys()
    names = {p.name for p in (broken / "out").iterdir()}
    assert {"model_0000007.shards", "model_0000011.shards", "model_final.shards", "model_final.pth"} <= names
    assert not first.exists() and not any(name.endswith(".tmp") for name in names)  # the last two are kept


@pytest.mark.slow
def test_sharded_run_resumed_equals_unbroken(tmp_path, run_worker):
    opts = (*OPTS, *SHARDED)
    run_worker(tmp_path / "whole", *opts, launcher=torchrun(2))
    run_worker(tmp_path / "broken", *opts, launcher=torchrun(2), die="eval:7", code=1)
    run_worker(tmp_path / "broken", "--resume", *opts, launcher=torchrun(2))
    a, b = results(tmp_path / "whole"), results(tmp_path / "broken")
    for first, second in zip(a[:2], b[:2]):
        assert first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)
    assert a[2] == b[2]


def make():
    net = nn.Linear(3, 2)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    net(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    return net, optimizer


def test_round_trip_in_one_process_and_a_broken_folder(tmp_path):
    net, optimizer = make()
    folder = str(tmp_path / "step.shards")
    for iteration in (1, 2):  # the second replaces the first
        save_sharded(folder, net, optimizer, {"iteration": iteration})
    other, moments = make()
    assert load_sharded(folder, other, moments) == {"iteration": 2}
    assert torch.equal(net.weight, other.weight) and full_state_dict(net).keys() == {"weight", "bias"}
    a, b = optimizer.state[net.weight], moments.state[other.weight]
    assert torch.equal(a["momentum_buffer"], b["momentum_buffer"])
    assert [p.name for p in tmp_path.iterdir()] == ["step.shards"]
    data = bytearray((tmp_path / "step.shards/rest.pth").read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "step.shards/rest.pth").write_bytes(data)
    with pytest.raises(BrokenCheckpointError, match=r"checksum of rest\.pth"):
        load_sharded(folder, other, moments)
    (tmp_path / "step.shards/shards.json").unlink()
    with pytest.raises(BrokenCheckpointError, match="not a complete sharded checkpoint"):
        load_sharded(folder, other, moments)


def test_checkpointer_passes_over_damaged_shards(tmp_path):
    net, optimizer = make()
    saver = DetectionCheckpointer(net, str(tmp_path), optimizer=optimizer)
    saver.save("model_0000001", iteration=1)
    save_sharded(str(tmp_path / "model_0000002.shards"), net, optimizer)
    saver.tag_last_checkpoint("model_0000002.shards")
    assert saver.newest_whole_checkpoint().endswith("model_0000002.shards")
    (tmp_path / "model_0000002.shards/rest.pth").write_bytes(b"")
    assert saver.newest_whole_checkpoint().endswith("model_0000001.pth")
    saver.remove_checkpoint(str(tmp_path / "model_0000002.shards"))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["last_checkpoint", "model_0000001.pth"]


def test_table_of_contents_runs_no_code(tmp_path):
    from detectron2.checkpoint.files.shards import _read_contents

    path = tmp_path / "evil"
    path.write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    with pytest.raises(UnsafeCheckpointError, match=r"os\.system"):
        _read_contents(str(path))


def test_sharding_alone_is_refused():
    with pytest.raises(RuntimeError, match="torchrun"):
        shard_model(nn.Linear(2, 2))
