"""Weights & Biases and MLflow through a whole training, with the packages themselves where they are installed."""

import glob
import inspect
import sys
import types

import pytest

SHORT = ("SOLVER.MAX_ITER", 6, "SOLVER.STEPS", (4,), "TEST.EVAL_PERIOD", 3, "SOLVER.CHECKPOINT_PERIOD", 0,
         "SOLVER.LOG_PERIOD", 2)  # fmt: skip


class Run:
    """What the writer uses of a run, with the parameters of wandb 0.31."""

    def __init__(self):
        self.rows, self.ended = [], False

    def log(self, data, step=None, commit=None):
        self.rows.append((step, data))

    def finish(self, exit_code=None):
        self.ended = True


def init(
    entity=None,
    project=None,
    dir=None,
    id=None,
    name=None,
    notes=None,
    tags=None,
    config=None,
    mode=None,
    **rest,
):
    init.given, init.run = {"project": project, "dir": dir, "config": config, "mode": mode, **rest}, Run()
    return init.run


def test_wandb_gets_figures_and_settings(worker, tiny_cfg, monkeypatch):
    stub = types.ModuleType("wandb")
    stub.init, stub.Image = init, lambda array: ("picture", array.shape)
    monkeypatch.setitem(sys.modules, "wandb", stub)
    trainer = worker.Trainer(
        tiny_cfg(*SHORT, "WRITERS.WANDB.ENABLED", True, "WRITERS.WANDB.PROJECT", "cells")
    )
    trainer.train()
    assert init.given["project"] == "cells" and init.given["dir"] == trainer.settings.output_dir
    assert init.given["config"]["SOLVER"]["MAX_ITER"] == 6
    rows = init.run.rows
    steps = [step for step, _ in rows]
    assert steps == sorted(steps)  # the tracker drops those that go back
    merged = {}
    for step, row in rows:
        merged.setdefault(step, {}).update(row)
    assert {"total_loss", "lr", "iteration"} <= set(merged[5]) and "tiny/score" in merged[6]
    assert init.run.ended


def test_the_stub_takes_what_the_package_takes():
    wandb = pytest.importorskip("wandb")
    from wandb.sdk.wandb_run import Run as Real

    for ours, theirs in ((init, wandb.init), (Run.log, Real.log), (Run.finish, Real.finish)):
        names = [n for n in inspect.signature(ours).parameters if n not in ("self", "rest")]
        assert set(names) <= set(inspect.signature(theirs).parameters)


def test_wandb_offline(worker, tiny_cfg, monkeypatch, tmp_path):
    pytest.importorskip("wandb")
    for name, value in (("WANDB_MODE", "offline"), ("WANDB_SILENT", "true"), ("WANDB_CONFIG_DIR", str(tmp_path)),
                        ("WANDB_CACHE_DIR", str(tmp_path)), ("WANDB_DATA_DIR", str(tmp_path))):  # fmt: skip
        monkeypatch.setenv(name, value)
    trainer = worker.Trainer(tiny_cfg(*SHORT, "WRITERS.WANDB.ENABLED", True))
    trainer.train()
    (path,) = glob.glob(f"{trainer.settings.output_dir}/wandb/offline-run-*/*.wandb")
    with open(path, "rb") as file:
        kept = file.read()
    assert b"total_loss" in kept and b"tiny/score" in kept and b"MAX_ITER" in kept


def test_mlflow_file_store_has_every_logged_iteration(worker, tiny_cfg, monkeypatch, tmp_path):
    pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # newer versions want to be asked for it
    from mlflow.tracking import MlflowClient

    uri = (tmp_path / "store").as_uri()
    opts = ("WRITERS.MLFLOW.ENABLED", True, "WRITERS.MLFLOW.URI", uri, "WRITERS.MLFLOW.EXPERIMENT", "cells")
    worker.Trainer(tiny_cfg(*SHORT, *opts)).train()
    client = MlflowClient(uri)
    (run,) = client.search_runs([client.get_experiment_by_name("cells").experiment_id])
    assert run.info.status == "FINISHED" and run.data.params["SOLVER.MAX_ITER"] == "6"
    assert [m.step for m in client.get_metric_history(run.info.run_id, "total_loss")] == [1, 3, 5]
    assert [m.step for m in client.get_metric_history(run.info.run_id, "tiny/score")] == [2, 6]
