"""A training told in few lines: steps, held-out results, and nothing else."""

import datetime
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager

from detectron2.engine.train_loop import HookBase

__all__ = ["FewLines", "calm_console"]

_LINES = 8  # as many per training


@contextmanager
def calm_console(name: str = "detectron2") -> Iterator[None]:
    """Within the ``with`` block, let only warnings of a logger to the console; files get all of its messages."""
    handlers = [h for h in logging.getLogger(name).handlers if not hasattr(h, "path")]
    levels = [h.level for h in handlers]
    for handler in handlers:
        handler.setLevel(logging.WARNING)
    try:
        yield
    finally:
        for handler, level in zip(handlers, levels):
            handler.setLevel(level)


class FewLines(HookBase):
    """Prints eight lines during a training, and one after each evaluation."""

    def before_train(self) -> None:
        self._start, self._first = time.perf_counter(), self.trainer.iter
        self._evaluated = -1

    def after_step(self) -> None:
        step, last = self.trainer.iter + 1, self.trainer.max_iter
        period = max(last // _LINES, 1)
        if step % period == 0 or step == last:
            loss = self.trainer.storage.history("total_loss").median(period)
            left = (time.perf_counter() - self._start) / (step - self._first) * (last - step)
            remaining = datetime.timedelta(seconds=round(left))
            print(f"  step {step:4d} of {last}   loss {loss:6.3f}   {remaining} left", flush=True)
        self._say_results(step)

    def _say_results(self, step: int) -> None:
        latest = self.trainer.storage.latest()
        value, when = latest.get("bbox/AP50", (0.0, -1))
        if when > self._evaluated and step < self.trainer.max_iter:
            self._evaluated = when
            masks = f", mask AP50 {latest['segm/AP50'][0] / 100:.3f}" if "segm/AP50" in latest else ""
            print(f"  held-out pictures after {step} steps: box AP50 {value / 100:.3f}{masks}", flush=True)
