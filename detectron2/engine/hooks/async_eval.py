"""Evaluation of a copy of the weights in a second process, while training goes on."""

from __future__ import annotations

import logging
import multiprocessing
import os
import pickle
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import multiprocessing as mp

from detectron2.checkpoint import read_checkpoint_file
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.utils import comm
from detectron2.utils.errors import InputError
from detectron2.utils.logger import setup_logger

from ..launch import launch
from ..train_loop import StopTraining
from .eval import flat_results
from .periodic import PeriodicHook

__all__ = ["AsyncEvalHook", "Datasets", "datasets_for_another_process"]

logger = logging.getLogger("detectron2.engine.hooks")

FOLDER = "evaluations"  # of the copies and of the log, within the folder of the training
Datasets = Sequence[tuple[str, Any, Mapping[str, Any]]]
"""Names, functions or records, and metadata."""
Evaluate = Callable[[str], Mapping[str, Any] | None]
"""Evaluates a file of weights."""


def datasets_for_another_process(names: Sequence[str]) -> Datasets:
    """Return registered datasets in a form that can be pickled.

    Functions that cannot, such as lambdas, are called, and their records are sent instead.
    """
    found = []
    for name in names:
        load = DatasetCatalog[name]
        try:
            pickle.dumps(load)
        except (pickle.PicklingError, AttributeError, TypeError):
            load = DatasetCatalog.get(name)
        found.append((name, load, MetadataCatalog.get(name).as_dict()))
    return found


def _begin(log: str, datasets: Datasets) -> None:
    """Set up the second process."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    setup_logger(log, comm.get_rank(), configure_stdout=False)
    for name, load, metadata in datasets:
        if name not in DatasetCatalog:
            DatasetCatalog.register(name, load if callable(load) else _Records(load))
            MetadataCatalog.get(name).set(**{k: v for k, v in metadata.items() if k != "name"})


def _end_with_parent() -> None:
    """End this process when the training is gone, even if it was killed."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


@dataclass(frozen=True)
class _Together:
    """Evaluates in several processes that share the images; called in the second process.

    Attributes:
        evaluate: called in each of them.
        processes: their number.
        first_device: number of the first one's GPU, the others have the next ones; None = CPU.
        log: file.
        datasets: as for :class:`AsyncEvalHook`.
    """

    evaluate: Evaluate
    processes: int
    first_device: int | None
    log: str
    datasets: Datasets

    def __call__(self, path: str) -> Mapping[str, Any] | None:
        for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
            os.environ.pop(name, None)  # of a training by torchrun
        os.environ["CUDA_VISIBLE_DEVICES"] = self._devices()
        try:
            launch(_evaluate_part, self.processes, args=(self.evaluate, path, self.log, self.datasets))
        except mp.ProcessExitedException as error:
            raise BrokenProcessPool(str(error)) from None  # as if this process was killed
        file = _results_file(path)
        results: Mapping[str, Any] | None = pickle.loads(file.read_bytes())
        file.unlink()
        return results

    def _devices(self) -> str:
        if self.first_device is None:
            return ""
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        names = visible.split(",") if visible else [str(i) for i in range(torch.cuda.device_count())]
        return ",".join(names[self.first_device : self.first_device + self.processes])


def _evaluate_part(evaluate: Evaluate, path: str, log: str, datasets: Datasets) -> None:
    _begin(log, datasets)
    results = evaluate(path)
    if comm.is_main_process():
        _results_file(path).write_bytes(pickle.dumps(results))


def _results_file(path: str) -> Path:
    return Path(path).with_suffix(".results")


class _Records:
    """Returns records as a registered function does."""

    def __init__(self, records: list[dict[str, Any]]) -> None:
        self._records = records

    def __call__(self) -> list[dict[str, Any]]:
        return self._records


class EvaluationFailed(InputError, RuntimeError):
    """An evaluation in a second process that gave no results."""


class AsyncEvalHook(PeriodicHook):
    """Evaluates copies of the weights in a second process, or in several that share the images.

    The results arrive in order and with the iteration of their weights, at most one evaluation after the other: if the
    next one is due and the last has not ended, training waits for it, and it waits for the last one at the end.

    Copies stay in the folder ``evaluations`` until a checkpoint contains their results, so that a resumed run
    evaluates those that were lost with a killed process.

    Args:
        eval_period: iterations between two evaluations; 0 evaluates only at the end.
        save: writes the weights to a file of this name and the ending ``.pth`` in ``folder``; all processes call it.
        evaluate: called in the second process with the path of such a file; it must be possible to pickle it.
        folder: folder of the training.
        datasets: of ``evaluate``; see :func:`datasets_for_another_process`.
        poll_period: iterations between two looks for results.
        on_results: called with the results of each evaluation, on the main process.
        processes: number of processes that share an evaluation; if there are several, they form a process group.
        first_device: number of the GPU of the first of several, the others have the next ones; None = CPU.
    """

    runs_again = True

    def __init__(
        self,
        eval_period: int,
        save: Callable[[str], None],
        evaluate: Evaluate,
        *,
        folder: str,
        datasets: Callable[[], Datasets] = tuple,
        poll_period: int = 20,
        on_results: Callable[[Mapping[str, Any]], None] | None = None,
        processes: int = 1,
        first_device: int | None = None,
    ) -> None:
        super().__init__(eval_period)
        self._save = save
        self._evaluate: Evaluate = evaluate
        self._call: Evaluate = evaluate
        self._folder = Path(folder)
        self._datasets = datasets
        self._led: list[PeriodicHook] = []
        self._poll_period = poll_period
        self._on_results = on_results
        self._processes, self._first_device = processes, first_device
        self._pool: ProcessPoolExecutor | None = None
        self._job: Future[Mapping[str, Any] | None] | None = None
        self._running = -1  # iteration of the weights that are being evaluated, on all processes
        self._evaluated = -1  # last iteration whose results have arrived
        self._in_checkpoint = -1  # the same when the last checkpoint was written

    def lead(self, *others: PeriodicHook) -> None:
        """Let hooks that read the results, such as early stopping, run when results arrive, and at no other time."""
        for hook in others:
            hook._period, hook.last_run = 0, "never"
        self._led += others

    def path(self, iteration: int) -> str:
        """Return the file of the weights of an iteration."""
        return str(self._folder / f"{self._name(iteration)}.pth")

    def weights(self, iteration: int) -> Mapping[str, Any]:
        """Return the copy of the weights of an iteration."""
        found: Mapping[str, Any] = read_checkpoint_file(self.path(iteration))["model"]
        return found

    @staticmethod
    def _name(iteration: int) -> str:
        return f"{FOLDER}/model_{iteration:07d}"

    # -- the course of training ---------------------------------------------------------------

    def before_train(self) -> None:
        """Evaluate copies that an interrupted run has left."""
        (self._folder / FOLDER).mkdir(parents=True, exist_ok=True)
        lost = []
        for file in sorted((self._folder / FOLDER).glob("model_*.pth")):
            number = re.fullmatch(r"model_(\d+)", file.stem)
            if number and self._evaluated < int(number[1]) < self.trainer.start_iter:
                lost.append(int(number[1]))
            elif comm.is_main_process():
                file.unlink()
        for iteration in comm.all_gather(lost)[0]:
            logger.info("The weights of iteration %d were not evaluated before the interruption.", iteration)
            self._start(iteration)

    def run(self) -> None:
        iteration = self.trainer.storage.iter
        if iteration <= max(self._evaluated, self._running):
            return
        self._finish()
        self._save(self._name(iteration))
        self._start(iteration)

    def after_step(self) -> None:
        if (self.trainer.iter + 1) % self._poll_period == 0:
            self._look()
        super().after_step()
        if self.trainer.iter + 1 == self.trainer.max_iter:
            self._finish()  # before the writers write this iteration, and before the last evaluation

    def after_train(self) -> None:
        try:
            if self.trainer.complete:
                super().after_train()
                self._finish()
                self._forget(self._evaluated)
        except StopTraining:
            pass  # it has ended
        finally:
            if self._pool is not None:
                self._close(self._pool)
            self._pool = self._job = None

    # -- the second process -------------------------------------------------------------------

    def _start(self, iteration: int) -> None:
        """Start the evaluation of a copy, after the one that runs."""
        self._finish()
        self._running = iteration
        if comm.is_main_process():
            self._submit(iteration)

    def _submit(self, iteration: int) -> None:
        if self._pool is None:
            log, datasets = str(self._folder / FOLDER / "log.txt"), self._datasets()
            # Not forked: a forked process cannot use CUDA.
            spawn = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(1, spawn, _begin, (log, datasets))
            if self._processes > 1:
                self._call = _Together(self._evaluate, self._processes, self._first_device, log, datasets)
        self._job = self._pool.submit(self._call, self.path(iteration))

    @staticmethod
    def _close(pool: ProcessPoolExecutor) -> None:
        """End the second process, which may be in the midst of an evaluation that nobody waits for."""
        processes = list((pool._processes or {}).values())
        pool.shutdown(wait=False, cancel_futures=True)
        for process in processes:
            process.terminate()

    def _look(self) -> None:
        """Take the results if all of them are there."""
        if self._running >= 0 and comm.all_gather(self._job is not None and self._job.done())[0]:
            self._finish()

    def _finish(self) -> None:
        """Wait for the evaluation that runs, and take its results."""
        if self._running < 0:
            return
        iteration, self._running = self._running, -1
        # The processes stop together if it failed.
        results, problem = comm.all_gather(self._outcome(iteration))[0]
        if problem:
            raise EvaluationFailed(
                f"the evaluation of the weights of iteration {iteration} failed: {problem} (see "
                f"{self._folder / FOLDER / 'log.txt'}; a resumed training evaluates them again)"
            )
        self._evaluated = iteration
        late = self.trainer.storage.iter - iteration
        logger.info(
            "The results for the weights of iteration %d are there, %d iterations later.", iteration, late
        )
        if results:
            for name, value in flat_results(results).items():
                self.trainer.storage.put_scalar(name, value, smoothing_hint=False, cur_iter=iteration)
            if self._on_results is not None:
                self._on_results(results)
        for hook in self._led:
            hook.run()

    def _outcome(self, iteration: int) -> tuple[Mapping[str, Any] | None, str]:
        """Return the results, and what went wrong; on other processes than the main one, nothing."""
        for _ in range(2 if self._job is not None else 0):
            assert self._job is not None
            try:
                return self._job.result(), ""
            except BrokenProcessPool:
                logger.warning("A process that evaluated iteration %d was killed.", iteration)
                if self._pool is not None:
                    self._close(self._pool)
                self._pool = None
                self._submit(iteration)
            except Exception as error:
                logger.error("Where it comes from:", exc_info=error, extra={"to_console": False})
                return None, f"{type(error).__name__}: {error}"
        return None, "its process was killed twice; is there enough memory for a second model?"

    # -- checkpoints --------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Return the last iteration whose results have arrived."""
        self._forget(self._in_checkpoint)  # the last checkpoint, which contains these results, is complete
        self._in_checkpoint = self._evaluated
        return {"evaluated": self._evaluated} if self._evaluated >= 0 else {}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Restore it."""
        self._evaluated = self._in_checkpoint = state_dict["evaluated"]

    def _forget(self, iteration: int) -> None:
        """Delete the copies up to an iteration."""
        if comm.is_main_process():
            for file in (self._folder / FOLDER).glob("model_*.pth"):
                if file.stem <= f"model_{iteration:07d}":
                    file.unlink()
