"""Steps that fail, the end of training after them, and the figures of each step."""

import pytest
import torch
from torch import nn

from detectron2.engine import HookBase, SimpleTrainer, TrainerBase, hooks, train_loop
from detectron2.engine.safety.guard import DivergenceError, StepGuard
from detectron2.engine.trainer import metrics
from detectron2.utils import comm
from detectron2.utils.events import EventStorage


class Net(nn.Module):
    """Loss ``w * x`` of a batch of numbers; ``refuse`` says when memory runs out."""

    def __init__(self, refuse=lambda batch: False):
        super().__init__()
        self.w = nn.Parameter(torch.ones(1))
        self.refuse = refuse

    def forward(self, batch):
        if self.refuse(batch):
            raise torch.OutOfMemoryError("tried to allocate 3 GiB")
        return {"loss": self.w.sum() * torch.tensor([float(x) for x in batch]).mean()}


def trainer_for(batches, refuse=lambda batch: False, **guard):
    net = Net(refuse)
    trainer = SimpleTrainer(net, batches, torch.optim.SGD(net.parameters(), lr=0.1))
    trainer.guard = StepGuard(**guard)
    return trainer


class Closes(HookBase):
    def __init__(self):
        self.closed = 0

    def after_train(self):
        self.closed += 1


# -- memory and numbers -------------------------------------------------------------------------


def test_split_batch_with_a_bad_image_counts_as_a_skipped_step(caplog):
    trainer = trainer_for(
        [[1, float("nan")], [2]], lambda batch: len(batch) > 1, max_skips=1, retry_in_parts=True
    )
    trainer.train(0, 2)
    assert trainer.guard.skipped == 1 and "Iteration 0 is skipped" in caplog.text
    assert trainer.model.w.item() == pytest.approx(1 - 0.1 * 2)  # the second step only
    trainer = trainer_for([[1, float("nan")]], lambda batch: len(batch) > 1, retry_in_parts=True)
    with pytest.raises(DivergenceError, match="iteration 0: first loss"):
        trainer.train(0, 1)


def test_memory_that_runs_out_in_a_later_batch_or_backward_gives_the_same_step():
    whole = trainer_for([[1, 3], [5, 7]])
    whole.accumulate_steps = 2
    whole.train(0, 1)
    parts = trainer_for([[1, 3], [5, 7]], lambda batch: len(batch) > 1 and 5 in batch, retry_in_parts=True)
    parts.accumulate_steps = 2
    parts.train(0, 1)
    backward = trainer_for([[1, 3, 5, 7]], retry_in_parts=True)
    add, calls = backward.precision.backward, []

    def greedy(loss):
        calls.append(1)
        add(loss)
        if len(calls) == 1:
            raise torch.OutOfMemoryError("in the backward pass")

    backward.precision.backward = greedy
    backward.train(0, 1)
    for trainer in (whole, parts, backward):
        assert trainer.model.w.item() == pytest.approx(1 - 0.1 * 4)
        assert trainer.storage.history("total_loss").latest() == pytest.approx(4.0)


# -- the end ------------------------------------------------------------------------------------


def evaluations(trainer, start=0, end=3):
    """Number of evaluations, files written at the end, and calls of the last hook's after_train."""
    calls, last = [], Closes()

    class Files:
        def __init__(self):
            self.saved = []

        def save(self, name, *weights, **state):
            self.saved.append(name)

        export = save

    files = Files()
    trainer.register_hooks(
        [
            hooks.EMAHook(trainer.model, checkpointer=files),
            hooks.EvalHook(0, lambda: calls.append(1) or {"bbox": {"AP": 1.0}}),
            hooks.BestCheckpointer(0, files, "bbox/AP"),
            last,
        ]
    )
    try:
        trainer.train(start, end)
    except (FloatingPointError, KeyboardInterrupt, RuntimeError):
        pass
    return len(calls), files.saved, last.closed


def test_complete_training_is_evaluated_once():
    assert evaluations(trainer_for([[1]] * 3)) == (1, ["model_ema", "model_best"], 1)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("broken"), FloatingPointError("late")])
def test_nothing_new_starts_after_a_failed_last_step(error):
    trainer = trainer_for([[1]] * 3)

    def fail(*_):
        if trainer.iter == 2:
            raise error

    trainer.after_backward = fail
    assert evaluations(trainer) == (0, [], 1)


def test_hooks_close_when_the_last_look_at_the_losses_fails():
    trainer = trainer_for([[1]] * 3)

    def finish():
        raise FloatingPointError("a late NaN")

    trainer.guard.finish = finish
    assert evaluations(trainer) == (0, [], 1)
    assert not trainer.complete


def test_hooks_close_when_another_one_fails_at_the_end():
    trainer, last = trainer_for([[1]] * 3), Closes()

    def fail():
        raise ValueError("no results")

    calls = []
    trainer.register_hooks([hooks.EvalHook(0, fail), hooks.EvalHook(0, lambda: calls.append(1)), last])
    with pytest.raises(ValueError, match="no results"):
        trainer.train(0, 3)
    assert last.closed == 1 and not calls


def test_a_loop_of_ones_own_is_complete_at_its_last_iteration():
    class Own(TrainerBase):
        def train(self):
            self.start_iter, self.max_iter = 0, 2
            with EventStorage() as self.storage:
                for self.iter in range(2):
                    self.after_step()
                self.after_train()

    trainer, calls = Own(), []
    trainer.register_hooks([hooks.EvalHook(0, lambda: calls.append(1))])
    trainer.train()
    assert calls == [1]


# -- periods ------------------------------------------------------------------------------------


class Stops(HookBase):
    def __init__(self, done):
        self.done = done

    def after_step(self):
        if self.trainer.iter + 1 == self.done:
            raise train_loop.StopTraining("enough")


@pytest.mark.parametrize(
    ("last", "every", "stop", "expected"),
    [
        ("after_train", 2, None, [2, 4, 7]),  # the last one in after_train, where iter is max_iter
        ("after_train", 3, None, [3, 7]),
        ("after_train", 0, None, [7]),
        ("after_train", 2, 4, [2, 4]),  # ends where it has run
        ("after_train", 2, 5, [2, 4, 6]),
        ("after_step", 2, None, [2, 4, 6]),
        ("after_step", 0, None, [6]),
        ("never", 2, None, [2, 4]),
        ("never", 0, None, []),
    ],
)
def test_periods(last, every, stop, expected):
    seen = []

    class Notes(hooks.PeriodicHook):
        last_run = last

        def run(self):
            seen.append(self.trainer.iter + 1)

    trainer = trainer_for([[1]] * 9)
    trainer.register_hooks([Notes(every), Stops(stop)])
    trainer.train(0, 6)
    assert seen == expected


def test_resuming_after_an_early_stop_keeps_iteration_and_weights():
    class Files:
        path_manager, saved = None, []

        def save(self, name, **state):
            self.saved.append((name, state["iteration"]))

    files, trainer = Files(), trainer_for([[1]] * 9)
    stop = hooks.EarlyStopping(1, "bbox/AP", patience=2)
    stop.load_state_dict({"best": 30.0, "waited": 2})
    trainer.register_hooks([hooks.PeriodicCheckpointer(files, 0), stop])
    trainer.train(5, 10)
    assert files.saved == [("model_final", 4)]
    assert trainer.iter == trainer.max_iter == 5 and trainer.state_dict()["iteration"] == 4
    assert trainer.model.w.item() == 1.0


def test_a_missing_metric_stops_all_processes_together(monkeypatch):
    monkeypatch.setattr(
        comm, "all_gather", lambda own: [(None, ["bbox/AP50"]), own]
    )  # this is the second process
    trainer = trainer_for([[1]] * 9)
    trainer.register_hooks([hooks.EarlyStopping(1, "bbox/AP")])
    with pytest.raises(KeyError, match=r"'bbox/AP'.*there are: bbox/AP50"):
        trainer.train(0, 3)


# -- states and figures -------------------------------------------------------------------------


def test_hooks_of_one_class_keep_their_own_states():
    class Counter(HookBase):
        def __init__(self, value):
            self.value = value

        def state_dict(self):
            return {"value": self.value} if self.value else {}

        def load_state_dict(self, state):
            self.value = state["value"]

    def made(*values):
        trainer, parts = trainer_for([[1]]), [Counter(v) for v in values]
        trainer.register_hooks(parts)
        trainer.iter, trainer.max_iter = 2, 9
        return trainer, parts

    first = made(11, 0, 22)[0].state_dict()
    assert list(first["hooks"]) == [Counter.__qualname__, f"{Counter.__qualname__}#3"]  # the first as ever
    trainer, parts = made(0, 5, 0)
    trainer.load_state_dict(first)
    assert [p.value for p in parts] == [11, 5, 22]


def test_shared_weights_are_averaged_once_and_exported_under_all_names():
    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Linear(2, 2, bias=False)
            self.b = nn.Linear(2, 2, bias=False)
            self.b.weight = self.a.weight

        def forward(self, batch):
            return self.b(self.a(torch.ones(1, 2))).sum()

    class Files:
        def export(self, name, weights, **state):
            self.weights = weights

    files, net = Files(), Shared()
    trainer = SimpleTrainer(net, [1] * 3, torch.optim.SGD(net.parameters(), lr=0.1))
    ema = hooks.EMAHook(net, 0.5, checkpointer=files)
    trainer.register_hooks([ema])
    trainer.train(0, 3)
    assert list(ema.state_dict()["average"]) == ["a.weight"]
    assert list(files.weights) == ["a.weight", "b.weight"]
    assert files.weights["a.weight"] is files.weights["b.weight"]
    assert not torch.equal(files.weights["a.weight"], net.a.weight)


@pytest.fixture
def two_processes(monkeypatch):
    """Pretends to be the main one of two equal processes; returns the list of its collectives."""
    calls = []

    def gather(table, row):
        calls.append(len(row))
        for place in table:
            place.copy_(row)

    monkeypatch.setattr(comm, "get_world_size", lambda: 2)
    monkeypatch.setattr(metrics.dist, "all_gather", gather)
    return calls


@pytest.mark.parametrize(
    ("period", "window", "logged", "collectives"),
    [
        (0, 1, range(10), 0),
        (0, 4, range(10), 0),
        (1, 1, range(10), 10),
        (3, 1, [2, 5, 8], 3),
        (1, 5, range(10), 3),  # the first iteration by itself
        (3, 5, [2, 5, 8], 2),
    ],
)
def test_period_selects_iterations_and_window_their_collectives(
    two_processes, period, window, logged, collectives
):
    trainer = trainer_for([[1]] * 10)
    trainer.gather_metric_period, trainer.metric_window = period, window
    trainer.train(0, 10)
    history = trainer.storage.history("total_loss").values()
    assert [iteration for _, iteration in history] == list(logged)
    assert len(two_processes) == collectives
    assert len(trainer.storage.history("rank_data_time").values()) == len(history)


def test_validation_loss_is_without_stochastic_depth():
    class DropPath(nn.Module):  # of any library
        def forward(self, x):
            return x * (torch.rand(len(x), 1) > 0.5) if self.training else x

    class Deep(nn.Module):
        def __init__(self):
            super().__init__()
            self.drop, self.w = DropPath(), nn.Parameter(torch.ones(1))

        def forward(self, batch):
            assert self.training
            return {"loss": (self.drop(torch.arange(64.0)[:, None]) * self.w).mean()}

    net = Deep()
    assert hooks.ValidationLoss(1, net, [[0], [0]]).compute()["total_loss"] == pytest.approx(31.5)
    assert net.drop.training


def test_override_points_of_programs_are_called():
    seen = []

    class Trainer(SimpleTrainer):
        def run_step(self):
            batch = next(self._data_loader_iter)
            losses = self.model(batch)
            self.optimizer.zero_grad()
            sum(losses.values()).backward()
            self._write_metrics(losses, 0.5)
            self.optimizer.step()

        def _write_metrics(self, loss_dict, data_time, prefix="", iter=None):
            seen.append("metrics")
            super()._write_metrics(loss_dict, data_time, prefix, iter)

        def after_train(self):
            seen.append("after_train")
            super().after_train()

    class Eval(hooks.EvalHook):
        def _do_eval(self):
            seen.append("eval")
            super()._do_eval()

    net = Net()
    trainer = Trainer(net, [[1]] * 4, torch.optim.SGD(net.parameters(), lr=0.1))
    trainer.register_hooks([Eval(2, lambda: {"bbox": {"AP": 1.0}})])
    trainer.train(0, 4)
    assert seen == ["metrics", "metrics", "eval", "metrics", "metrics", "after_train", "eval"]
    assert trainer.storage.latest()["data_time"][0] == 0.5 and "bbox/AP" in trainer.storage.latest()
