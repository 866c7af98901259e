"""Commands on Ray: what needs no cluster, and (slow) a real one with two workers on this machine, some of them killed."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from detectron2.cli import main
from detectron2.cli.arguments import build_parser
from detectron2.cli.run import on_ray
from detectron2.cli.run.on_ray import PredictionFile, RayEngine, predictions_on_ray, ray_engine
from detectron2.config import get_cfg
from detectron2.engine.on_ray import RayReport, _on_worker, restore_checkpoint
from detectron2.modeling import build_model
from detectron2.utils.errors import DeviceError, UserError

from .conftest import TINY, write_discs

ENVIRONMENT = {
    **os.environ, "OMP_NUM_THREADS": "1", "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "600",
    "RAY_raylet_start_wait_time_s": "600", "RAY_DEDUP_LOGS": "0",
}  # fmt: skip


class Here(RayEngine):
    """Maps in this process."""

    def map(self, rows, kind, args, batch):
        worker = kind(*args)
        for first in range(0, len(rows), batch):
            part = rows[first : first + batch]
            found = worker({key: np.array([row[key] for row in part]) for key in part[0]})
            for values in zip(*found.values()):
                yield dict(zip(found, values))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Arguments of a predictor with random weights, and its pictures, one of them broken."""
    folder = tmp_path_factory.mktemp("model")
    (folder / "tiny.yaml").write_text(TINY)
    cfg = get_cfg()
    cfg.merge_from_file(str(folder / "tiny.yaml"))
    cfg.MODEL.DEVICE = "cpu"
    torch.manual_seed(0)
    torch.save({"model": build_model(cfg).state_dict()}, folder / "model.pth")
    write_discs(folder / "data", 5)
    pictures = sorted(map(str, (folder / "data/images").glob("*.jpg")))
    (folder / "data/images/broken.jpg").write_bytes(b"no picture")
    options = {
        "model": str(folder / "tiny.yaml"), "weights": str(folder / "model.pth"), "scores": 0.0, "device": "cpu",
        "batch_size": 1,  # pictures of a batch change the last bits of each other
    }  # fmt: skip
    return options, pictures, str(folder / "data/images/broken.jpg")


def test_a_bad_file_costs_one_file_and_a_half_line_is_written_again(model, tmp_path) -> None:
    options, pictures, broken = model
    engine = Here(2, "cpu")
    target = tmp_path / "out/predictions.jsonl"
    file = PredictionFile(target, resume=False)
    reasons = predictions_on_ray(engine, options, [pictures[0], broken, *pictures[1:]], file)
    file.close()
    whole = target.read_bytes()
    records = [json.loads(line) for line in whole.splitlines()]
    assert [r["file_name"] for r in records] == pictures and list(reasons) == [broken]
    assert file.objects == sum(len(r["objects"]) for r in records) > 0 and records[0]["height"] == 64
    assert all(a["score"] >= b["score"] for r in records for a, b in zip(r["objects"], r["objects"][1:]))

    target.write_bytes(b"".join(whole.splitlines(keepends=True)[:2]) + b'{"file_name": "x')
    again = PredictionFile(target, resume=True)
    assert again.done == set(pictures[:2])
    predictions_on_ray(engine, options, pictures, again)
    again.close()
    assert target.read_bytes() == whole
    anew = PredictionFile(target, resume=False)
    anew.close()
    assert target.read_bytes() == b""


@pytest.mark.parametrize(
    "words, said",
    [
        ("--engine ray --num-workers 0", "--num-workers is 0, but Ray needs at least 1 process"),
        ("--engine ray --device cuda:1", "'cuda:1', but Ray gives each process a GPU: --device cuda"),
        ("--num-workers 4", "--num-workers goes with --engine ray"),
        ("--storage s3://runs", "--storage goes with --engine ray"),
    ],
)
def test_options_that_do_not_fit_are_refused_before_anything_is_written(
    words, said, tmp_path, capsys
) -> None:
    (tmp_path / "run").mkdir()
    starts = {
        "train": ["--train", tmp_path / "no.json", "--output", tmp_path / "out"], "eval": [tmp_path / "run"],
        "predict": [tmp_path / "run", "--output", tmp_path / "out"],
    }  # fmt: skip
    for name, start in starts.items():
        if "--storage" not in words or name == "train":
            assert main([name, *map(str, start), *words.split()]) == 2
            assert said in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["run"]


def test_without_ray_a_file_of_predictions_stays(monkeypatch, model, tmp_path, capsys) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)  # as if it was not installed
    kept = tmp_path / "predictions.jsonl"
    kept.write_text("mine")
    words = ["predict", model[0]["model"], *model[1], "--output", str(tmp_path), "--engine", "ray"]
    assert main(words) == 2 and "pip install 'detectron2[ray]'" in capsys.readouterr().err
    assert kept.read_text() == "mine"


def test_the_gpus_are_those_of_the_cluster(monkeypatch) -> None:
    gpus = {}
    monkeypatch.setattr(
        on_ray, "import_ray", lambda connect=True: SimpleNamespace(cluster_resources=lambda: gpus)
    )
    monkeypatch.setattr(on_ray, "chosen_device", lambda name: f"{name} here")

    def device(*words):
        engine = ray_engine(build_parser().parse_args(["eval", "run", "--engine", "ray", *words]))
        return engine.device, engine.num_workers

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert device() == ("None here", 1) and device("--device", "cuda") == ("cuda here", 1)
    monkeypatch.setenv("RAY_ADDRESS", "head:6379")  # whose own machine may have none
    assert device("--num-workers", "3") == ("None here", 3) and device("--device", "cpu")[0] == "cpu here"
    assert device("--device", "cuda")[0] == "cuda"  # an autoscaler may add them
    gpus["GPU"] = 8.0
    assert device()[0] == "cuda"
    assert ray_engine(build_parser().parse_args(["eval", "run"])) is None


def test_a_training_remembers_its_place_in_the_storage(tmp_path) -> None:
    engine = RayEngine(2, "cpu")
    place = engine._place(tmp_path, resume=True)  # there is nothing to go on with
    assert place["storage"] == str(tmp_path / "ray")
    assert RayEngine(1, "cpu", storage="s3://elsewhere")._place(tmp_path, resume=True) == place
    assert RayEngine(1, "cpu", storage="s3://there")._place(tmp_path, resume=False)["storage"] == "s3://there"
    assert (RayEngine(1, "cuda").num_gpus, RayEngine(1, "cpu").num_gpus) == (1, 0)


def test_more_processes_than_this_machine_has_are_refused(monkeypatch, tmp_path) -> None:
    here = SimpleNamespace(cluster_resources=lambda: {"CPU": 2.0, "GPU": 1.0})
    monkeypatch.setattr(on_ray, "import_ray", lambda connect=True: here)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    for engine, said in (
        (RayEngine(3, "cpu"), r"Ray has 2 CPU\(s\)"),
        (RayEngine(2, "cuda"), r"Ray has 1 GPU\(s\)"),
    ):
        with pytest.raises(UserError, match=f"--num-workers is {engine.num_workers}, but {said}"):
            engine.train(print, tmp_path, resume=False)
    assert not list(tmp_path.iterdir())


def test_wrong_input_is_not_tried_again(monkeypatch) -> None:
    """Ray starts the workers anew after any error; what they return ends the training."""
    result = type("Result", (), {"return_value": None})
    context = SimpleNamespace(get_local_world_size=lambda: 1)
    torch_side = SimpleNamespace(get_device=lambda: torch.device("cpu"))
    train = SimpleNamespace(torch=torch_side, get_context=lambda: context, Result=result)
    modules = {"ray": SimpleNamespace(train=train), "ray.train": train, "ray.train.torch": torch_side}
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)

    def fail(error):
        raise error

    def outcome(error):
        return _on_worker({"main": fail, "args": (error,)})

    assert outcome(ValueError("no such class")).text == "no such class"
    assert _on_worker({"main": print, "args": ()}) is None
    for error in (DeviceError("no GPU"), RuntimeError("NCCL"), OSError("disk")):
        with pytest.raises(type(error)):
            outcome(error)
    del result.return_value  # of an older Ray
    with pytest.raises(ValueError):
        outcome(ValueError("no such class"))


class Checkpoint:
    def __init__(self, folder):
        self.folder = folder

    def as_directory(self):
        return contextlib.nullcontext(str(self.folder))


def test_checkpoints_are_reported_and_restored(tmp_path, monkeypatch) -> None:
    kept, reports = tmp_path / "kept", []

    def report(metrics, checkpoint=None):
        reports.append(metrics)
        shutil.copytree(checkpoint, kept)

    train = SimpleNamespace(report=report, Checkpoint=SimpleNamespace(from_directory=lambda place: place))
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(train=train))
    monkeypatch.setitem(sys.modules, "ray.train", train)
    run = tmp_path / "run"
    run.mkdir()
    for name in ("model_0000001.pth", "model_0000003.pth", "model_best.pth", "metrics.json"):
        (run / name).write_text(name)
    (run / "last_checkpoint").write_text("model_0000003.pth")
    hook = RayReport(2, str(run))
    hook.trainer = SimpleNamespace(
        iter=3, complete=False, storage=SimpleNamespace(latest=lambda: {"total_loss": (torch.tensor(2.0), 3)})
    )
    hook.run()
    assert reports == [{"total_loss": 2.0, "iteration": 3}]
    assert {p.name for p in kept.iterdir()} == {"model_0000003.pth", "last_checkpoint", "metrics.json"}
    assert not list(run.glob(".ray-*"))

    # Another machine has written a newer checkpoint, which not all others have.
    (run / "last_checkpoint").write_text("model_0000005.pth")
    (run / "model_0000003.pth").unlink()
    assert restore_checkpoint(run, Checkpoint(kept))
    assert (run / "last_checkpoint").read_text() == "model_0000003.pth" and (
        run / "model_0000003.pth"
    ).exists()
    train.get_checkpoint = lambda: None
    assert not restore_checkpoint(run)


# ------------------------------------------------------------------ a real cluster
def command(*words: object) -> list[str]:
    return [sys.executable, "-m", "detectron2", *map(str, words)]


def finish(process: subprocess.Popen, log: Path, seconds: float = 1500) -> str:
    code = process.wait(timeout=seconds)
    assert code == 0, log.read_text()[-6000:]
    return log.read_text()


def start(log: Path, *words: object) -> subprocess.Popen:
    with log.open("w") as out:
        return subprocess.Popen(
            command(*words), env=ENVIRONMENT, stdout=out, stderr=subprocess.STDOUT, cwd=log.parent
        )


def ray_workers(driver: subprocess.Popen, title: bytes) -> list[int]:
    """Processes of the cluster that the driver started, by the name that Ray gives them."""
    parents, found = {}, []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                if title in (entry / "cmdline").read_bytes():
                    found.append(int(entry.name))
            except OSError:
                continue

    def below(pid: int) -> bool:
        while pid in parents and pid != driver.pid:
            pid = parents[pid]
        return pid == driver.pid

    return [pid for pid in found if below(pid)]


def wait_for(condition, driver: subprocess.Popen, log: Path, seconds: float = 1200) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert driver.poll() is None and time.monotonic() < until, log.read_text()[-6000:]
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds the workers in /proc")
def test_training_evaluation_and_prediction_outlive_a_killed_worker(tmp_path) -> None:
    pytest.importorskip("ray")
    discs = write_discs(tmp_path / "data", 8)
    (tmp_path / "tiny.yaml").write_text(TINY)
    ray = ("--engine", "ray", "--num-workers", 2, "--device", "cpu")
    log, run = tmp_path / "train.log", tmp_path / "run"
    driver = start(
        log, "train", "--train", discs, "--val", discs, "--model", "tiny.yaml", "--weights", "none", "--output", "run",
        "--workers", 0, "--batch-size", 4, "--epochs", 8, *ray, "SOLVER.CHECKPOINT_PERIOD", 4, "TEST.EVAL_PERIOD", 0,
        "TEST.VAL_LOSS.PERIOD", 0,
    )  # fmt: skip
    try:
        # Its folder is there before Ray knows of the checkpoint; a worker that is killed in between begins anew.
        wait_for(
            lambda: any(
                "checkpoint_2" in f.read_text() for f in run.glob("ray/*/checkpoint_manager_snapshot.json")
            ),
            driver,
            log,
        )
        os.kill(ray_workers(driver, b"RayTrainWorker")[0], signal.SIGKILL)
        said = finish(driver, log)
    finally:
        driver.kill()
    text = (run / "log.txt").read_text()
    assert "Restored" in text and "Resuming from" in text
    assert "box_AP" in said and (run / "model_final.pth").is_file() and (run / "report.html").is_file()
    assert json.loads((run / "summary.json").read_text())["images"] == 8

    here, there = tmp_path / "here", tmp_path / "there"
    for folder, words in ((here, ("--device", "cpu")), (there, ray)):
        done = start(tmp_path / f"{folder.name}.log", "eval", "run", "--output", folder, *words)
        finish(done, tmp_path / f"{folder.name}.log")
    results = [json.loads((f / "inference/coco_instances_results.json").read_text()) for f in (here, there)]
    in_order = [sorted(r, key=lambda a: (a["image_id"], -a["score"], a["bbox"])) for r in results]
    assert in_order[0] == in_order[1]

    for number in range(40):
        picture = np.random.default_rng(number).integers(0, 255, (64, 80, 3), dtype=np.uint8)
        Image.fromarray(picture).save(tmp_path / f"data/images/more{number}.jpg")
    (tmp_path / "data/images/broken.jpg").write_bytes(b"no picture")
    log, target = tmp_path / "predict.log", tmp_path / "out/predictions.jsonl"
    driver = start(log, "predict", "run", "data/images", "--threshold", 0, "--output", "out", *ray)
    try:
        wait_for(lambda: target.exists() and target.read_bytes().count(b"\n") > 2, driver, log)
        for pid in ray_workers(driver, b"MapWorker")[:1]:
            os.kill(pid, signal.SIGKILL)
        said = finish(driver, log)
    finally:
        driver.kill()
    names = [json.loads(line)["file_name"] for line in target.read_text().splitlines()]
    assert len(names) == len(set(names)) == 48 and "1 skipped" in said
