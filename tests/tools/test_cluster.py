"""Recipes for schedulers: what they name exists, what they start understands it, and one of them runs."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from detectron2.cli.arguments import build_parser
from detectron2.engine import default_argument_parser

ROOT = Path(__file__).resolve().parents[2]
CLUSTER = ROOT / "tools/cluster"
WORKER = ROOT / "tests/engine/worker.py"


def document(name: str) -> dict:
    return yaml.safe_load((CLUSTER / name).read_text())


def pod(job: dict) -> dict:
    spec = job["spec"]
    return spec.get("template", spec.get("pytorchReplicaSpecs", {}).get("Worker", {}).get("template"))["spec"]


@pytest.mark.parametrize("name", ["predict-job.yaml", "pytorchjob.yaml"])
def test_pods_follow_the_schema_of_kubernetes(name: str) -> None:
    kubernetes = pytest.importorskip("kubernetes_validate")
    job = document(name)
    wrapped = {"apiVersion": "v1", "kind": "Pod", "metadata": job["metadata"], "spec": pod(job)}
    wrapped["spec"].setdefault("restartPolicy", "OnFailure")
    kubernetes.validate(wrapped, "1.30", strict=True)
    if job["kind"] == "Job":
        kubernetes.validate(job, "1.30", strict=True)
    with pytest.raises(kubernetes.ValidationError):
        kubernetes.validate({**wrapped, "spec": {**wrapped["spec"], "volume": []}}, "1.30", strict=True)
    mounts = {m["name"] for c in pod(job)["containers"] for m in c["volumeMounts"]}
    assert mounts == {v["name"] for v in pod(job)["volumes"]}


def test_the_job_predicts_every_part_once() -> None:
    job = document("predict-job.yaml")
    (container,) = pod(job)["containers"]
    assert job["spec"]["completionMode"] == "Indexed" and container["command"] == ["detectron2", "predict"]
    count = job["spec"]["completions"]
    parts = set()
    for index in range(count):  # Kubernetes puts variables in place before it starts the command
        words = [word.replace("$(JOB_COMPLETION_INDEX)", str(index)) for word in container["args"]]
        parts.add(build_parser().parse_args(["predict", *words]).shard)
    assert parts == {f"{i}/{count}" for i in range(count)}


def test_the_operator_tells_torchrun_of_the_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    from torch.distributed.run import parse_args

    spec = document("pytorchjob.yaml")["spec"]
    (container,) = pod({"spec": spec})["containers"]
    elastic = spec["elasticPolicy"]
    told = {
        "PET_NNODES": f"{elastic['minReplicas']}:{elastic['maxReplicas']}", "PET_NPROC_PER_NODE": spec["nprocPerNode"],
        "PET_RDZV_BACKEND": elastic["rdzvBackend"], "PET_RDZV_ENDPOINT": "train-worker-0:29400",
        "PET_MAX_RESTARTS": str(elastic["maxRestarts"]),
    }  # fmt: skip
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    args = parse_args(container["args"])
    assert (args.nnodes, args.nproc_per_node, args.rdzv_backend) == ("1:2", "8", "c10d")
    assert int(args.max_restarts) == 20 and (ROOT / args.training_script).is_file()
    ours = default_argument_parser().parse_args(args.training_script_args)
    assert ours.resume and ours.opts == ["OUTPUT_DIR", "/shared/run"]


def recipe():
    spec = importlib.util.spec_from_file_location("submitit_train", CLUSTER / "submitit_train.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_recipe_takes_a_program_and_its_arguments() -> None:
    args = recipe().parse(["--nodes", "2", "--", "tools/train_net.py", "--resume", "SEED", "1"])
    assert args.program[1:] == ["--resume", "SEED", "1"] and args.nodes == 2
    with pytest.raises(SystemExit):
        recipe().parse(["--nodes", "2"])


@pytest.mark.slow
def test_submitit_runs_two_processes_on_this_machine(tmp_path: Path) -> None:
    pytest.importorskip("submitit")
    command = [
        sys.executable, str(CLUSTER / "submitit_train.py"), "--cluster", "local", "--tasks-per-node", "2", "--timeout-min",
        "10", "--logs", str(tmp_path / "logs"), "--", str(WORKER), str(tmp_path), "SOLVER.MAX_ITER", "6", "SOLVER.STEPS", "()",
    ]  # fmt: skip
    done = subprocess.run(
        command, env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        timeout=500, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-4000:]
    assert (tmp_path / "out/model_final.pth").is_file()
    logs = "".join(p.read_text() for p in (tmp_path / "logs").glob("*.out"))
    assert "World size: 2" in logs
    rows = [json.loads(line) for line in (tmp_path / "out/metrics.json").read_text().splitlines()]
    assert {4, 5} & {row["iteration"] for row in rows}
