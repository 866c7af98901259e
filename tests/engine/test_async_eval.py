"""Evaluation in a second process: the same results as within the training, in order, and none lost."""

import json
import os
import time
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import pytest
import torch

from detectron2.checkpoint import read_checkpoint_file
from detectron2.config.training_options import TrainingOptions
from detectron2.engine import HookBase, TrainerBase, hooks
from detectron2.engine.hooks import async_eval
from detectron2.engine.hooks.eval import undisturbed_rng
from detectron2.engine.trainer import builders
from detectron2.utils.env import seed_all_rng
from detectron2.utils.errors import InputError

ASYNC = ("TEST.ASYNC.ENABLED", True, "TEST.ASYNC.DEVICE", "cpu")
SHORT = ("SOLVER.MAX_ITER", 12, "SOLVER.STEPS", (8,), "TEST.EVAL_PERIOD", 3, "SOLVER.CHECKPOINT_PERIOD", 6, "SOLVER.LOG_PERIOD", 2)  # fmt: skip


class Job(Future):
    """An evaluation that is done when it was asked for the third time, or waited for."""

    def __init__(self, call):
        super().__init__()
        self.call, self.asked = call, 0

    def done(self):
        self.asked += 1
        return self.asked >= 3

    def result(self, timeout=None):
        with undisturbed_rng():  # as of another process
            return self.call()


class Pool:
    """Stands for the second process."""

    _processes = None

    def __init__(self, workers, context, initializer, initargs):
        assert workers == 1

    def submit(self, call, *args):
        return Job(lambda: call(*args))

    def shutdown(self, **options):
        pass


@pytest.fixture
def in_turns(monkeypatch):
    monkeypatch.setattr(async_eval, "ProcessPoolExecutor", Pool)


class Counting(TrainerBase):
    """Its weight is the number of steps."""

    def __init__(self, *found):
        super().__init__()
        self.weight = 0
        self.register_hooks(found)

    def run_step(self):
        self.weight += 1


def make(folder, trainer, evaluate, period=4, **options):
    """A hook that saves the weight of a ``Counting`` trainer."""

    def save(name):
        (folder / f"{name}.pth").write_text(str(trainer[0].weight))

    return hooks.AsyncEvalHook(period, save, evaluate, folder=str(folder), poll_period=1, **options)


def rows(folder):
    """The metrics of each iteration."""
    found = {}
    for line in (Path(folder) / "metrics.json").read_text().splitlines():
        row = json.loads(line)
        found.setdefault(row.pop("iteration"), {}).update(row)
    return found


def scores(folder):
    return {i: row["tiny/score"] for i, row in rows(folder).items() if "tiny/score" in row}


@pytest.mark.parametrize("extra", [(), ("SOLVER.EMA.ENABLED", True)], ids=["weights", "average"])
def test_results_are_those_of_an_ordinary_training(worker, tiny_cfg, tmp_path, in_turns, extra):
    found = []
    for name, opts in (("a", ()), ("b", ASYNC)):
        out = str(tmp_path / name)
        seed_all_rng(7)
        trainer = worker.Trainer(tiny_cfg(*SHORT, *extra, *opts, "OUTPUT_DIR", out))
        kinds = [type(h).__name__ for h in trainer._hooks]
        assert ("AsyncEvalHook" in kinds) == (name == "b") and ("EvalHook" in kinds) == (name == "a")
        trainer.resume_or_load(resume=False)
        results = trainer.train()
        best = read_checkpoint_file(f"{out}/model_best.pth")
        losses = {i: row["total_loss"] for i, row in rows(out).items() if "total_loss" in row}
        found.append((results, scores(out), losses, best["iteration"], best["metric"], best["model"]))
    assert len(found[0][1]) == 4 and found[0][:5] == found[1][:5]
    assert all(torch.equal(v, found[1][5][k]) for k, v in found[0][5].items())
    assert not list((tmp_path / "b/evaluations").glob("*.pth"))


def test_results_arrive_later_in_order_and_one_evaluation_runs_at_a_time(tmp_path, in_turns):
    seen = []

    class Look(HookBase):
        def after_step(self):
            latest = self.trainer.storage.latest()
            seen.append(latest["score"] if "score" in latest else None)

    trainer = [None]
    hook = make(tmp_path, trainer, lambda path: {"score": float(Path(path).read_text())})
    trainer[0] = Counting(hook, Look())
    trainer[0].train(0, 10)
    # The copies of iterations 3 and 7 have the weights 4 and 8, and their results come three looks later, or at the end.
    assert seen == [None] * 6 + [(4.0, 3)] * 3 + [(8.0, 7)]
    assert trainer[0].storage.latest()["score"] == (10.0, 10)


def test_best_checkpoint_and_early_stopping_follow_the_results(tmp_path, in_turns):
    trainer = [None]
    values = {4: 0.5, 8: 0.9, 12: 0.1, 16: 0.2, 19: 0.3}
    hook = make(tmp_path, trainer, lambda path: {"score": values[int(Path(path).read_text())]})
    saved = []

    class Saver:
        def export(self, name, weights, **extra):
            saved.append((name, weights, extra["iteration"]))

    best = hooks.BestCheckpointer(4, Saver(), "score", weights=lambda i: Path(hook.path(i)).read_text())
    stop = hooks.EarlyStopping(4, "score", patience=2)
    hook.lead(best, stop)
    trainer[0] = Counting(hook, best, stop)
    trainer[0].train(0, 100)
    assert saved == [("model_best", "4", 3), ("model_best", "8", 7)]
    # The results of iteration 15 come with the third look after it; the end has an evaluation of its own.
    assert trainer[0].max_iter == 19 and (best.best_iter, stop.waited) == (7, 3)


def test_what_an_interrupted_run_did_not_evaluate_is_evaluated(tmp_path, in_turns):
    trainer = [None]

    class Stop(HookBase):
        def after_step(self):
            if self.trainer.iter == 9:
                raise RuntimeError("power cut")

    def evaluate(path):
        return {"score": float(Path(path).read_text())}

    hook = make(tmp_path, trainer, evaluate)
    trainer[0] = Counting(hook, Stop())
    state = {}
    with pytest.raises(RuntimeError, match="power cut"):
        trainer[0].train(0, 20)
    # The last checkpoint is older than the results of iteration 3: as if it was written in iteration 5.
    resumed = make(tmp_path, trainer, evaluate)
    assert state == {}
    trainer[0] = Counting(resumed)
    trainer[0].weight = 6
    trainer[0].train(6, 8)
    history = trainer[0].storage.history("score").values()
    assert history == [(4.0, 3), (8.0, 8)]  # 7 is the last one, which counts as the end


def test_copies_stay_until_a_checkpoint_holds_their_results(tmp_path, in_turns):
    trainer = [None]
    hook = make(tmp_path, trainer, lambda path: {"score": 1.0})
    left = []

    class Save(HookBase):
        def after_step(self):
            if self.trainer.iter % 5 == 4:
                kept = hook.state_dict()
                left.append((kept, sorted(p.stem for p in (tmp_path / "evaluations").glob("*.pth"))))

    trainer[0] = Counting(hook, Save())
    trainer[0].train(0, 15)
    one, two, three = (f"model_{i:07d}" for i in (3, 7, 11))
    assert left == [({}, [one]), ({"evaluated": 3}, [one, two]), ({"evaluated": 11}, [two, three])]


def test_a_killed_process_is_replaced_once(tmp_path, in_turns, caplog):
    trainer, tries = [None], []

    def evaluate(path):
        tries.append(path)
        if len(tries) in (1, 3, 4):
            raise BrokenProcessPool
        return {"score": 1.0}

    trainer[0] = Counting(make(tmp_path, trainer, evaluate, period=0))
    trainer[0].train(0, 3)
    assert len(tries) == 2 and "was killed" in caplog.text
    trainer[0] = Counting(make(tmp_path, trainer, evaluate, period=0))
    with pytest.raises(RuntimeError, match=r"weights of iteration 3 failed: its process was killed twice"):
        trainer[0].train(0, 3)


def test_an_error_of_the_evaluation_ends_the_training(tmp_path, in_turns):
    trainer = [None]

    def evaluate(path):
        raise ValueError("no such image")

    trainer[0] = Counting(make(tmp_path, trainer, evaluate))
    with pytest.raises(RuntimeError, match="iteration 3 failed: ValueError: no such image") as found:
        trainer[0].train(0, 30)
    # The command line shows its text alone, which says where to look.
    assert isinstance(found.value, InputError) and "evaluations/log.txt" in str(found.value)
    assert trainer[0].iter == 6


def test_on_a_cpu_only_a_named_device_turns_it_on(worker, tiny_cfg, capsys):
    trainer = worker.Trainer(tiny_cfg("TEST.ASYNC.ENABLED", True))
    assert any(type(h) is hooks.EvalHook for h in trainer._hooks)
    assert "TEST.ASYNC is off" in capsys.readouterr().out


def test_datasets_that_cannot_be_pickled_are_sent_as_records(worker, tiny_cfg):
    from detectron2.data import DatasetCatalog, MetadataCatalog

    tiny_cfg()
    records = [{"file_name": "a.png"}]
    DatasetCatalog.register("tiny_lambda", lambda: records)
    MetadataCatalog.get("tiny_lambda").thing_classes = ["a"]
    try:
        plain, sent = hooks.datasets_for_another_process(["tiny_engine_data", "tiny_lambda"])
        assert callable(plain[1]) and plain[0] == "tiny_engine_data"
        assert sent[1] == records and sent[2]["thing_classes"] == ["a"]
    finally:
        DatasetCatalog.remove("tiny_lambda")
        MetadataCatalog.remove("tiny_lambda")


def alive(mark):
    """Processes with this text in their environment."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if entry.name != str(os.getpid()) and mark.encode() in (entry / "environ").read_bytes():
                found.append(entry.name)
        except OSError:
            continue
    return found


@pytest.mark.slow
def test_a_real_process_evaluates_and_ends_with_a_killed_training(tmp_path, run_worker):
    opts = ["SOLVER.MAX_ITER", 30, "SOLVER.STEPS", "(20,)"]
    run_worker(tmp_path / "a", *opts)
    mark = f"{tmp_path}/mark"
    for folder, extra, die in (
        ("b", (), None),
        ("c", (), "step:24"),
        ("c", ("--resume",), None),
        ("d", ("--num-gpus", 2), None),
    ):
        text = run_worker(tmp_path / folder, *extra, *opts, *ASYNC, die=die, env=[("MARK", mark)])
        assert die or "results for the weights of iteration" in text
        until = time.monotonic() + 60
        while alive(mark) and time.monotonic() < until:
            time.sleep(0.2)
        assert not alive(mark)
    expected = scores(tmp_path / "a/out")
    assert sorted(expected) == [9, 19, 30]
    for folder in "bcd":
        assert scores(tmp_path / folder / "out") == pytest.approx(expected, abs=1e-6 if folder != "d" else 1)
        assert not list((tmp_path / folder / "out/evaluations").glob("*.pth"))


@pytest.mark.slow
def test_two_real_processes_share_each_evaluation(tmp_path, run_worker):
    opts = ["SOLVER.MAX_ITER", 20, "SOLVER.STEPS", "(15,)"]
    run_worker(tmp_path / "a", *opts)
    mark = f"{tmp_path}/mark"
    # The evaluator of rank 1 is killed once, at its second image; the training goes on.
    once = tmp_path / "killed"
    run_worker(
        tmp_path / "b",
        *opts,
        *ASYNC,
        "TEST.ASYNC.PROCESSES",
        2,
        env=[("MARK", mark), ("KILL_EVALUATOR", once)],
    )
    assert not alive(mark) and once.exists()
    # A training that is killed takes all evaluators with it.
    run_worker(tmp_path / "c", *opts, *ASYNC, "TEST.ASYNC.PROCESSES", 2, die="step:12", env=[("MARK", mark)])
    until = time.monotonic() + 60
    while alive(mark) and time.monotonic() < until:
        time.sleep(0.2)
    assert not alive(mark)
    run_worker(tmp_path / "c", "--resume", *opts, *ASYNC, "TEST.ASYNC.PROCESSES", 2)
    expected = scores(tmp_path / "a/out")
    assert sorted(expected) == [9, 20]
    for folder in "bc":
        assert scores(tmp_path / folder / "out") == pytest.approx(expected, abs=1e-6)
        left = sorted(p.name for p in (tmp_path / folder / "out/evaluations").iterdir())
        assert left == ["log.txt", "log.txt.rank1"]
    log = (tmp_path / "b/out/log.txt").read_text()
    assert "A process that evaluated iteration 9 was killed" in log


def test_evaluators_get_the_gpus_after_those_of_the_training(worker, tiny_cfg, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setattr(builders.comm, "get_local_size", lambda: 2)

    def place(device, processes):
        options = TrainingOptions(device="cuda", eval_device=device, eval_processes=processes)
        return builders._evaluation_device(options)

    assert place("", 1) == ("cuda", None) and place("cuda:3", 1) == ("cuda:3", None)
    assert (
        place("", 2) == ("cuda", 2) and place("cuda:1", 3) == ("cuda", 1) and place("cpu", 3) == ("cpu", None)
    )
    with pytest.raises(ValueError, match="needs the GPUs 2 to 4, but there are 4"):
        place("", 3)


@pytest.mark.parametrize(
    "first, visible, expected", [(None, "0,1", ""), (1, "", "1,2"), (1, "5,6,7,8", "6,7")]
)
def test_evaluators_see_their_gpus_alone(monkeypatch, first, visible, expected):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert async_eval._Together(print, 2, first, "", ())._devices() == expected
