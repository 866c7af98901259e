"""Several processes on one machine and on several: the same training as in one process."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from detectron2.checkpoint import read_checkpoint_file
from detectron2.engine.launch import _find_free_port

WORKER = Path(__file__).with_name("worker.py")
TORCHRUN = (sys.executable, "-m", "torch.distributed.run")
# Means over processes equal means over the batch only if each process draws the same images in the same form.
SAME = (
    "MODEL.META_ARCHITECTURE", "PlainNet", "SOLVER.IMS_PER_BATCH", "4", "SOLVER.MAX_ITER", "20", "SOLVER.STEPS", "(15,)",
    "DATALOADER.ASPECT_RATIO_GROUPING", "False", "INPUT.RANDOM_FLIP", "none", "INPUT.MIN_SIZE_TRAIN", "(24,)",
    "SOLVER.BASE_LR", "0.05", "TEST.EVAL_PERIOD", "10", "SOLVER.LOG_PERIOD", "1",
)  # fmt: skip


def losses(folder):
    """The loss of each iteration; an iteration that was done again counts in its last form."""
    rows = (line.split() for line in (folder / "losses.txt").read_text().splitlines())
    return {int(iteration): float(loss) for iteration, loss in rows}


def weights(folder):
    return read_checkpoint_file(folder / "out/model_final.pth")["model"]


def assert_same_curve(a, b, rel=2e-5):
    """Sums in another order differ in the last bits of float32; 20 steps may multiply that."""
    first, second = losses(a), losses(b)
    assert list(first) == list(second) == list(range(20))
    for iteration, loss in first.items():
        assert loss == pytest.approx(second[iteration], rel=rel), iteration
    assert first[19] < 0.8 * first[0]
    w = weights(b)
    for name, value in weights(a).items():
        assert torch.allclose(value, w[name], rtol=5 * rel, atol=1e-6), name


@pytest.fixture(scope="module")
def one_process(tmp_path_factory):
    """The run in one process that all others are held against."""
    folder = tmp_path_factory.mktemp("one")
    run([sys.executable, str(WORKER), str(folder), *SAME])
    return folder


def run(command, **options):
    done = subprocess.run(
        command, env={**os.environ, "OMP_NUM_THREADS": "1", **options.pop("env", {})}, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, timeout=400, check=False, **options,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-6000:]
    return done.stdout


@pytest.mark.slow
def test_four_processes_equal_one_with_the_same_batch(one_process, tmp_path):
    run([*TORCHRUN, "--standalone", "--nproc-per-node", "4", str(WORKER), str(tmp_path), *SAME])
    assert_same_curve(one_process, tmp_path)


@pytest.mark.slow
def test_a_training_goes_on_with_other_numbers_of_processes(tmp_path, run_worker):
    """4, 2 and 3 processes in turn, each killed in a step, see the images of one process with the same augmentation."""
    opts = [
        *SAME, "SOLVER.IMS_PER_BATCH", "12", "DATALOADER.ASPECT_RATIO_GROUPING", "True", "INPUT.RANDOM_FLIP",
        "horizontal", "INPUT.MIN_SIZE_TRAIN", "(20, 28)", "DATALOADER.NUM_WORKERS", "1", "TEST.EVAL_PERIOD", "0",
    ]  # fmt: skip
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    run_worker(whole, *opts)
    for number, die in ((4, "step:7"), (2, "step:12"), (3, None)):
        launcher = (*TORCHRUN, "--standalone", "--nproc-per-node", str(number))
        log = run_worker(parts, "--resume", *opts, die=die, launcher=launcher, code=1 if die else 0)
        if number != 4:
            begin = {2: 5, 3: 10}[number]
            assert f"model_{begin - 1:07d}.pth at iteration {begin} of 20" in log
    # Another image, or one augmented otherwise, changes the loss of its step by percents.
    assert_same_curve(whole, parts, rel=1e-4)


@pytest.mark.slow
def test_losses_reduced_once_a_window_are_the_same(one_process, tmp_path):
    opts = [*SAME[:-1], "7"]  # 20 is no multiple of 7
    run([*TORCHRUN, "--standalone", "--nproc-per-node", "2", str(WORKER), str(tmp_path), *opts])
    assert (tmp_path / "out/metrics.json").read_text().count('"total_loss"') == 3
    assert_same_curve(one_process, tmp_path)


@pytest.mark.slow
def test_figures_are_those_of_the_saved_weights(worker, tiny_cfg, tmp_path):
    """Each process has batch statistics of its own images; evaluations use those that are saved."""
    opts = [
        "SOLVER.IMS_PER_BATCH",
        "4",
        "SOLVER.MAX_ITER",
        "4",
        "SOLVER.STEPS",
        "()",
        "TEST.EVAL_PERIOD",
        "4",
    ]
    run([*TORCHRUN, "--standalone", "--nproc-per-node", "2", str(WORKER), str(tmp_path), *opts])
    lines = (tmp_path / "out/metrics.json").read_text().splitlines()
    seen = [row["tiny/score"] for row in map(json.loads, lines) if "tiny/score" in row]
    cfg = tiny_cfg()
    model = worker.Trainer.build_model(cfg)
    model.load_state_dict(weights(tmp_path))
    assert seen[-1] == pytest.approx(worker.Trainer.test(cfg, model)["tiny"]["score"], rel=1e-5)


def _hosts(prefixes, addresses, tmp_path, env=({}, {})):
    """Runs one torchrun on each of two hosts, one process each."""
    port = _find_free_port()
    agents = []
    for number, (prefix, address) in enumerate(zip(prefixes, addresses)):
        command = [
            *prefix, *TORCHRUN, "--nnodes", "2", "--nproc-per-node", "1", "--rdzv-backend", "c10d", "--rdzv-id", "twohosts",
            "--rdzv-endpoint", f"{addresses[0]}:{port}", "--rdzv-conf", f"is_host={number == 0}", "--local-addr", address,
            str(WORKER), str(tmp_path), *SAME,
        ]  # fmt: skip
        environment = {**os.environ, "OMP_NUM_THREADS": "1", **env[number]}
        with (tmp_path / f"host{number}.log").open("w") as log:
            agents.append(subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT))
    try:
        codes = [agent.wait(timeout=400) for agent in agents]
    finally:
        for agent in agents:
            agent.kill()
            agent.wait()
    text = "".join((tmp_path / f"host{n}.log").read_text()[-4000:] for n in (0, 1))
    assert codes == [0, 0], text


@pytest.mark.slow
def test_two_agents_on_one_machine_equal_one_process(one_process, tmp_path):
    _hosts(((), ()), ("127.0.0.1", "127.0.0.1"), tmp_path)
    assert_same_curve(one_process, tmp_path)


@contextlib.contextmanager
def namespaces():
    """Two network namespaces that see each other through a pair of virtual cards and nothing else.

    Yields:
        For each its name, its address and the name of its card.
    """
    tag = f"d2{os.getpid() % 100000}"
    hosts = [(f"{tag}a", "10.213.7.1", f"{tag}va"), (f"{tag}b", "10.213.7.2", f"{tag}vb")]

    def ip(*words):
        done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(
                f"network namespaces are not allowed here: ip {' '.join(words)}: {done.stderr.strip()}"
            )

    if shutil.which("ip") is None:
        pytest.skip("network namespaces need the program ip (iproute2)")
    try:
        for name, _, _ in hosts:
            ip("netns", "add", name)
        ip("link", "add", hosts[0][2], "type", "veth", "peer", "name", hosts[1][2])
        for name, address, card in hosts:
            ip("link", "set", card, "netns", name)
            ip("-n", name, "addr", "add", f"{address}/24", "dev", card)
            ip("-n", name, "link", "set", card, "up")
            ip("-n", name, "link", "set", "lo", "up")
        yield hosts
    finally:
        for name, _, _ in hosts:
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)


@pytest.mark.slow
def test_two_hosts_in_network_namespaces_equal_one_process(one_process, tmp_path):
    with namespaces() as hosts:
        prefixes = [("ip", "netns", "exec", name) for name, _, _ in hosts]
        _hosts(
            prefixes, [address for _, address, _ in hosts], tmp_path,
            env=[{"GLOO_SOCKET_IFNAME": card} for _, _, card in hosts],
        )  # fmt: skip
    assert_same_curve(one_process, tmp_path)
