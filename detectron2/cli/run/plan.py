"""What the user sees before the first step, and what the commands make of their data options."""

import argparse
import datetime
import time

from detectron2.data.formats import DataPlan, Source
from detectron2.engine import HookBase
from detectron2.engine.run_config import RunConfig
from detectron2.utils.logger import setup_logger

__all__ = ["ExpectedTime", "say_plan", "schedule_text", "source_of"]


def source_of(args: argparse.Namespace, path: str, images: str | None = None) -> Source:
    """Return where labels are, from the options that ``train``, ``eval`` and ``data`` share."""
    options = {"task": args.task} if args.task else {}
    return Source(path, args.format, images or args.images, options)


def schedule_text(run: RunConfig, num_images: int, model: str, weights: str) -> str:
    """Describe model, steps, epochs, batch and rate."""
    steps = int(run.options.max_iter)
    epochs = steps * run.batch_size / max(num_images, 1)
    rate = run.get(run.rate_path)
    return (
        f"Training: {model} from {weights or 'random weights'}, {steps} steps of {run.batch_size} images "
        f"({epochs:.3g} epochs), learning rate {rate}"
    )


def say_plan(plan: DataPlan, *more: str) -> None:
    """Log the data, the defects and further lines in one report."""
    logger = setup_logger(name="detectron2")
    found = any(r.findings for r in plan.reports.values())
    (logger.warning if found else logger.info)("Data check: %s", plan.health())
    logger.info("%s", "\n".join([plan.to_text(), *more]))


class ExpectedTime(HookBase):
    """Says after the first steps how long the training will take."""

    def __init__(self, first: int = 5, steps: int = 15) -> None:
        """
        Args:
            first: steps that are not counted, since much is set up in them.
            steps: steps that are.
        """
        self.first, self.steps = first, steps
        self._start = 0.0

    def before_train(self) -> None:
        """Remember where the training begins."""
        self._begin = self.trainer.iter

    def after_step(self) -> None:
        """Take the time."""
        done = self.trainer.iter + 1 - self._begin
        if done == self.first:
            self._start = time.perf_counter()
        elif done == self.first + self.steps:
            each = (time.perf_counter() - self._start) / self.steps
            left = (self.trainer.max_iter - self.trainer.iter - 1) * each
            text = str(datetime.timedelta(seconds=round(left)))
            logger = setup_logger(name="detectron2")
            logger.info("About %s to go without evaluations, at %.2f s a step", text, each)
