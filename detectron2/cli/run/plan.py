"""Reading data options, and showing the plan of a training before its first step."""

import argparse
import datetime
import time

from detectron2.data.formats import DataPlan, Source
from detectron2.engine import HookBase
from detectron2.engine.run_config import RunConfig
from detectron2.utils.logger import setup_logger

__all__ = ["ExpectedTime", "say_plan", "schedule_text", "source_of"]


def source_of(args: argparse.Namespace, path: str, images: str | None = None) -> Source:
    """Return the source of labels from the options that ``train``, ``eval`` and ``data`` share."""
    options = {"task": args.task} if args.task else {}
    return Source(path, args.format, images or args.images, options)


def schedule_text(run: RunConfig, num_images: int, model: str, weights: str) -> str:
    """Describe model, weights, steps, batch size and learning rate."""
    steps = int(run.options.max_iter)
    epochs = steps * run.batch_size / max(num_images, 1)
    rate = run.get(run.rate_path)
    return (
        f"Training: {model} from {weights or 'random weights'}, {steps} steps of {run.batch_size} images "
        f"({epochs:.3g} epochs), learning rate {rate}"
    )


def say_plan(plan: DataPlan, *more: str) -> None:
    """Log the data check, the data and further lines."""
    logger = setup_logger(name="detectron2")
    found = any(r.findings for r in plan.reports.values())
    (logger.warning if found else logger.info)("Data check: %s", plan.health())
    logger.info("%s", "\n".join([plan.to_text(), *more]))


class ExpectedTime(HookBase):
    """Logs an estimate of the remaining time after the first steps."""

    def __init__(self, first: int = 5, steps: int = 15) -> None:
        """
        Args:
            first: number of slower first steps, which are not timed.
            steps: number of timed steps.
        """
        self.first, self.steps = first, steps
        self._start = 0.0

    def before_train(self) -> None:
        self._begin = self.trainer.iter

    def after_step(self) -> None:
        done = self.trainer.iter + 1 - self._begin
        if done == self.first:
            self._start = time.perf_counter()
        elif done == self.first + self.steps:
            each = (time.perf_counter() - self._start) / self.steps
            left = (self.trainer.max_iter - self.trainer.iter - 1) * each
            text = str(datetime.timedelta(seconds=round(left)))
            logger = setup_logger(name="detectron2")
            logger.info("About %s remaining without evaluations, at %.2f s per step", text, each)
