"""Running a file beside its model, and the table of how far they agree."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any, TypeVar

import torch
from torch import nn

from detectron2.structures.types import ModelOutput

from ..exported import ExportedModel
from .compare import TOLERANCES, Difference, Tolerance, compare
from .scenes import Scene

T = TypeVar("T")

__all__ = ["Agreement", "prove"]


@dataclass
class Agreement:
    """How far a file agrees with its model.

    Attributes:
        path: of the file.
        scenes: pictures that were tried.
        differences: one for each.
        model_ms, file_ms: median time for a picture, in milliseconds, one call after the other on this machine.
        model_cpu_ms, file_cpu_ms: the same as processor time of all threads, which other programs disturb less.
        tolerance: what was allowed.
        figures: rows of AP before and after, by name: (model, file).
        max_ap_drop: points of 100 that AP, PQ and mIoU may fall by.
    """

    path: Path
    scenes: list[Scene]
    differences: list[Difference]
    model_ms: float
    file_ms: float
    model_cpu_ms: float
    file_cpu_ms: float
    tolerance: Tolerance
    figures: dict[str, tuple[float | None, float | None]] = field(default_factory=dict)
    max_ap_drop: float = 2.0

    @property
    def drops(self) -> dict[str, float]:
        """Points of 100 that AP, PQ and mIoU fall by, by name; those at single overlaps (AP50, AP75) left out."""
        return {
            name: round(100 * (before - (after or 0.0)), 2)
            for name, (before, after) in self.figures.items()
            if before is not None and not name.endswith(("AP50", "AP75"))
        }

    @property
    def problems(self) -> list[str]:
        """What does not agree, each with its picture; empty if all does."""
        found = [
            f"{scene.name} at {scene.size}: {problem}"
            for scene, difference in zip(self.scenes, self.differences)
            for problem in difference.problems
        ]
        found += [
            f"{name} falls by {drop:.2f} points of 100, from {' to '.join(map(_share, self.figures[name]))}; at most "
            f"{self.max_ap_drop:g} are allowed (max_ap_drop)"
            for name, drop in self.drops.items()
            if drop > self.max_ap_drop
        ]
        seen = any(d.objects or d.labels is not None for d in self.differences)
        return (
            found
            if seen
            else [*found, "the model finds nothing on these pictures, which proves nothing; name others"]
        )

    def table(self) -> str:
        """Return the comparison as a Markdown table, one row a picture."""
        heads = ["picture", "height x width", "objects", "missing", "box (px)", "score"]
        extra = [
            n
            for n in ("mask_iou", "keypoint", "labels")
            if any(getattr(d, n) is not None for d in self.differences)
        ]
        names = {"mask_iou": "lowest mask IoU", "keypoint": "keypoint (px)", "labels": "equal pixels"}
        rows = [[*heads, *(names[n] for n in extra), "agrees"]]
        rows.append(["---"] * len(rows[0]))
        for scene, d in zip(self.scenes, self.differences):
            more = ["" if getattr(d, n) is None else f"{getattr(d, n):.4g}" for n in extra]
            rows.append(
                [scene.name.replace("|", "/"), scene.size, str(d.objects), str(d.missing), f"{d.box:.2g}", f"{d.score:.2g}", *more,
                 "no" if d.problems else "yes"]
            )  # fmt: skip
        lines = ["| " + " | ".join(row) + " |" for row in rows]
        if self.figures:
            lines += ["", "| figure | model | file |", "| --- | --- | --- |"]
            lines += [f"| {name} | {_share(a)} | {_share(b)} |" for name, (a, b) in self.figures.items()]
            lines += [
                "",
                f"AP, PQ and mIoU may fall by {self.max_ap_drop:g} points of 100; the most that one falls is "
                f"{max(self.drops.values(), default=0.0):.2f}.",
            ]
        lines += ["", f"Median time for a picture: model {self.model_ms:.0f} ms, file {self.file_ms:.0f} ms; "
                  f"of processors: model {self.model_cpu_ms:.0f} ms, file {self.file_cpu_ms:.0f} ms."]  # fmt: skip
        return "\n".join(lines) + "\n"


def _share(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.4f}"


def prove(
    model: nn.Module,
    exported: ExportedModel,
    scenes: Sequence[Scene],
    path: Path,
    tolerance: Tolerance | None = None,
) -> Agreement:
    """Run a file and its model on the same pictures and compare.

    Args:
        model: in evaluation mode.
        exported: the file.
        scenes: pictures.
        path: where the file is going to be.
        tolerance: what is allowed; None for that of the file's precision.
    """
    tolerance = tolerance or TOLERANCES[exported.metadata["precision"]]
    about = exported.metadata
    cut, batch = (about["score_threshold"] or 0.0, about["most_detections"]), about["batch"] or 1
    outputs: list[tuple[ModelOutput, ModelOutput | str]] = []
    times = []
    for scene in scenes:
        inputs = [{"image": scene.image}]
        wanted, of_model = _timed(_infer, model, inputs)
        try:
            # In a file of batches other pictures run along, so that results in the wrong place are seen.
            others = [{"image": scene.image.flip(-1)}] * (batch - 1)
            found, of_file = _timed(exported.predict, [*others, *inputs])
        except Exception as error:  # of the runtime, which is not ours
            text = str(error).strip().splitlines()
            outputs.append((wanted[0], text[0] if text else type(error).__name__))
            continue
        times.append((of_model[0], of_file[0] / batch, of_model[1], of_file[1] / batch))
        outputs.append((wanted[0], found[-1]))
    tolerance = _attainable(tolerance, [wanted for wanted, _ in outputs])
    differences = [
        Difference(problems=[f"the file does not run: {got}"])
        if isinstance(got, str)
        else compare(want, got, tolerance, *cut)
        for want, got in outputs
    ]
    # The first picture warms up caches on both sides.
    columns = zip(*(times[1:] or times or [(0.0,) * 4]))
    model_ms, file_ms, model_cpu_ms, file_cpu_ms = (1000 * median(column) for column in columns)
    return Agreement(path, list(scenes), differences, model_ms, file_ms, model_cpu_ms, file_cpu_ms, tolerance)


def _attainable(tolerance: Tolerance, outputs: Sequence[ModelOutput]) -> Tolerance:
    """Lower ``above`` for a model that gives no such scores, so that its best objects are compared."""
    best = [float(o["instances"].scores.max()) for o in outputs if len(o.get("instances", ()))]
    return replace(tolerance, above=min(tolerance.above, max(best, default=1.0) / 2))


def _infer(model: Callable[..., T], inputs: list[dict[str, Any]]) -> T:
    with torch.no_grad():
        return model(inputs)


def _timed(call: Callable[..., T], *args: object) -> tuple[T, tuple[float, float]]:
    """Call, and return the seconds and the processor seconds that it took as well."""
    start, processor = time.perf_counter(), time.process_time()
    result = call(*args)
    return result, (time.perf_counter() - start, time.process_time() - processor)
