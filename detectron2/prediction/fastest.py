"""The fastest way to run a model on this machine that gives what the model gives, found by a short measurement."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import platform
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from detectron2.export import ExportOptions, export_model, is_exported
from detectron2.export.metadata import describe_classes, describe_model, describe_resize, versions
from detectron2.export.proof import TOLERANCES, compare
from detectron2.modeling.backbone import optimize_for_inference
from detectron2.structures.types import ModelOutput
from detectron2.utils.errors import BadValue
from detectron2.utils.file_io import get_cache_dir
from detectron2.utils.file_io.atomic import write_json

from .backends import Backend, Prepared, TorchBackend
from .exported import ExportedBackend
from .selection import select

__all__ = ["EAGER", "WAYS", "Way", "fastest_backend"]

logger = logging.getLogger(__name__)

EAGER = "eager"
_FORMATS = {"ONNX Runtime": "onnx", "OpenVINO": "openvino", "torch.export": "pt2"}
WAYS = ("channels-last", "compiled", *_FORMATS)
"""What is tried beside eager, the quickest to make first."""

_WORTH = 1.03  # times as fast as eager: less is within the noise of a measurement
_KEPT = "fastest.json"

Pictures = Sequence[npt.NDArray[Any]]
Say = Callable[[str], None]


@dataclass(frozen=True)
class Way:
    """A way to run a model, and what was measured.

    Attributes:
        name: "eager", "channels-last", "compiled", "ONNX Runtime", "OpenVINO" or "torch.export"; for files of int8 their name.
        seconds: for a picture, preparation included.
        ratio: how many times as fast as eager, measured in turns.
        made: seconds that it took to make.
        problem: why it is not to be taken; empty if it gives what the model gives.
    """

    name: str
    seconds: float = 0.0
    ratio: float = 0.0
    made: float = 0.0
    problem: str = ""

    def __str__(self) -> str:
        if not self.seconds:
            return f"{self.name:15s} no: {self.problem}"
        text = f"{self.name:15s} {1000 * self.seconds:6.0f} ms a picture, {self.ratio:.2f} times as fast as eager"
        text += f", made in {self.made:.0f} s" if self.made >= 1 else ""
        return f"{text}; not taken: {self.problem}" if self.problem else text


def fastest_backend(
    backend: TorchBackend,
    pictures: Pictures,
    *,
    scores: float | None = None,
    folder: Path | None = None,
    ways: Sequence[str] = (),
    rounds: int = 2,
    clock: Callable[[], float] = time.perf_counter,
    say: Say = logger.info,
) -> tuple[Backend, list[Way]]:
    """Try ways to run a model on the CPU, and return the fastest one that agrees with it on pictures.

    Tried are channels-last memory with folded norms, ``torch.compile`` with frozen weights, and files for ONNX Runtime,
    OpenVINO and ``torch.export``, where these are installed. What wins is kept, so that the next start is quick; it is
    measured anew when the weights, the config, this machine or the versions of the packages change. Files of int8 beside a
    run are measured, too, but never taken, since they are not exact.

    Args:
        backend: the model as it is.
        pictures: RGB arrays ``(H, W, 3)``, a few of those that it is made for.
        scores: lowest score of an object that is wanted; a model is spared the masks of others, a file is not.
        folder: keeps the winner; None for ``fast`` in the folder of the run, or in the cache for other models.
        ways: those of :data:`WAYS` to try; none for all.
        rounds: timed runs of all pictures for each way.
        clock: returns seconds.
        say: is told each line of the measurement.

    Raises:
        ValueError: if the model is not on the CPU in float32 and uncompiled, or there are no pictures.
    """
    if backend.device.type != "cpu" or not backend.is_plain:
        raise BadValue(
            "the fastest way is looked for on the CPU in float32: leave out precision and compile, and take the device cpu "
            f"(this model is on {backend.device})"
        )
    if not pictures:
        raise BadValue("the fastest way is measured on pictures: name at least one")
    trial = _Trial(backend, pictures, scores, rounds, clock)
    key = _key(backend, scores)
    folder = folder or _cache_folder(backend.name, key)
    kept = _kept(trial, folder, key, say)
    if kept is not None:
        return kept
    say(
        f"Looking for the fastest way on this machine, with {torch.get_num_threads()} threads; this may take minutes"
    )
    folder.mkdir(parents=True, exist_ok=True)
    best, measured = _try_all(trial, ways or WAYS, folder, say)
    _keep(best[0], measured, folder, key)
    say(f"Taken: {best[0]}; kept in {folder} for the next start")
    return best[1], measured


def _try_all(
    trial: _Trial, names: Sequence[str], folder: Path, say: Say
) -> tuple[tuple[str, Backend], list[Way]]:
    """Measure every way; of the files only that of the winner stays."""
    ways = [Way(EAGER, trial.seconds_of(trial.backend), 1.0)]
    say(str(ways[0]))
    best: tuple[str, Backend] = (EAGER, trial.backend)
    most = _WORTH
    graphs: dict[Any, Any] = {}
    for name in names:
        made, way = trial.measured(name, lambda name=name: _make(trial, name, folder, graphs))  # type: ignore[misc]
        if made is not None and not way.problem and way.ratio > most:
            _remove(folder, best[0])
            best, most = (name, made), way.ratio
        else:
            _remove(folder, name)
        ways.append(way)
        say(str(way))
    for file in _lossy_files(trial.backend.name):
        _, way = trial.measured(file.name, lambda file=file: ExportedBackend(file), _loss(file))  # type: ignore[misc]
        ways.append(way)
        say(str(way))
    return best, ways


def _make(trial: _Trial, name: str, folder: Path, graphs: dict[Any, Any]) -> Backend:
    """Make one way to run a model."""
    backend = trial.backend
    if name == EAGER:
        return backend
    if name not in _FORMATS:
        return backend.changed(optimize_for_inference, compile=name == "compiled")
    about = {**describe_classes(backend.metadata), **describe_resize(backend.augmentation), "input_format": backend.input_format}  # fmt: skip
    picture = trial.pictures[0]
    ordered = picture if backend.input_format == "RGB" else np.ascontiguousarray(picture[:, :, ::-1])
    made = folder / _FORMATS[name]
    shutil.rmtree(made, ignore_errors=True)
    options = ExportOptions(_FORMATS[name])
    done = export_model(
        backend.model, made / "model", [ordered], options=options, metadata=about, graphs=graphs
    )
    return _FileOfModel(done.path, backend)


class _FileOfModel(ExportedBackend):
    """A file in the place of its model, which prepares the pictures, and runs those that are too large for the file."""

    def __init__(self, path: str | os.PathLike[str], whole: TorchBackend) -> None:
        super().__init__(path)
        self.whole = whole
        self.cfg, self.metadata = whole.cfg, whole.metadata
        sides = self.model.metadata["sides"]
        self._most = sides[1] if sides else 0

    def prepare(self, rgb: npt.NDArray[Any]) -> Prepared:
        return self.whole.prepare(rgb)

    def run(self, batch: Sequence[Prepared], scores: float | None = None) -> list[ModelOutput]:
        too_large = any(max(prepared.data["image"].shape[1:]) > self._most for prepared in batch)
        return self.whole.run(batch, scores) if too_large else super().run(batch, scores)

    def __reduce__(self) -> tuple[type[ExportedBackend], tuple[Any, ...]]:
        return type(self), (self.path, self.whole)


class _Trial:
    """A model and pictures that other ways to run it are held against."""

    def __init__(
        self, backend: TorchBackend, pictures: Pictures, scores: float | None, rounds: int, clock: Callable[[], float]
    ) -> None:  # fmt: skip
        self.backend = backend
        self.pictures = pictures
        self._scores = scores
        self._rounds, self._clock = rounds, clock
        self._wanted = [self._run(backend, picture) for picture in pictures]
        about = describe_model(backend.model)
        self._cut = (max(about["score_threshold"] or 0.0, scores or 0.0), about["most_detections"])

    def measured(
        self, name: str, make: Callable[[], Backend], problem: str = ""
    ) -> tuple[Backend | None, Way]:
        """Make a way, compare its results, and take its time; a failure is a line and not the end."""
        start = time.perf_counter()
        try:
            other = make()
            problem = problem or self.problem_of(other)
            made = time.perf_counter() - start
            return other, self._timed(name, other, made, problem)
        except Exception as error:  # of runtimes and compilers, which are not ours
            lines = str(error).strip().splitlines() or [""]
            reason = " ".join(line.strip() for line in lines[:2]) or type(error).__name__
            return None, Way(name, made=time.perf_counter() - start, problem=reason[:300])

    def problem_of(self, other: Backend) -> str:
        """Say where the results are not those of the model; empty if they are."""
        for number, (picture, wanted) in enumerate(zip(self.pictures, self._wanted), 1):
            problems = compare(wanted, self._run(other, picture), TOLERANCES["fp32"], *self._cut).problems
            if problems:
                return f"differs in picture {number}: {problems[0].replace('the file', 'it')}"
        return ""

    def seconds_of(self, other: Backend) -> float:
        """Return the shortest time for all pictures, divided by their number."""
        times = []
        for _ in range(self._rounds):
            start = self._clock()
            for picture in self.pictures:
                self._run(other, picture)
            times.append(self._clock() - start)
        return min(times) / len(self.pictures)

    def _timed(self, name: str, other: Backend, made: float, problem: str) -> Way:
        """Take the time in turns with the model, since other programs may be busy."""
        rounds, self._rounds = self._rounds, 1
        try:
            self._run(other, self.pictures[0])  # warms up
            times = [(self.seconds_of(other), self.seconds_of(self.backend)) for _ in range(rounds)]
        finally:
            self._rounds = rounds
        seconds, plain = (min(column) for column in zip(*times))
        return Way(name, seconds, plain / max(seconds, 1e-9), made, problem)

    def _run(self, backend: Backend, picture: npt.NDArray[Any]) -> ModelOutput:
        return select(backend.run([backend.prepare(picture)], self._scores)[0], self._scores, None)


# -- the next start ---------------------------------------------------------------------------


def _key(backend: TorchBackend, scores: float | None) -> str:
    """Return a name for all that the fastest way depends on."""
    found = hashlib.sha256()
    for name, value in backend.model.state_dict().items():
        found.update(name.encode())
        if isinstance(value, torch.Tensor):
            found.update(value.detach().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    about = (str(backend.cfg), scores, versions(), platform.machine(), _processor(), torch.get_num_threads())
    found.update(repr(about).encode())
    return found.hexdigest()


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line for line in lines if line.startswith("model name")), "")


def _cache_folder(name: str, key: str) -> Path:
    if (Path(name) / "run.json").is_file() and os.access(name, os.W_OK):
        return Path(name) / "fast"
    return Path(get_cache_dir()) / "fast" / key[:16]


def _kept(trial: _Trial, folder: Path, key: str, say: Say) -> tuple[Backend, list[Way]] | None:
    """Return what an earlier start found, if it still holds and agrees on these pictures."""
    try:
        kept = json.loads((folder / _KEPT).read_text(encoding="utf-8"))
        ways = [Way(**way) for way in kept["ways"]]
        if kept["key"] != key:
            say(
                f"Measured again, since the weights, the config or this machine changed after {folder / _KEPT}"
            )
            return None
        best = _again(trial, str(kept["taken"]), folder)
        problem = trial.problem_of(best)
    except FileNotFoundError:
        return None
    except Exception as error:  # of what a folder may hold
        say(f"Measured again, since {folder / _KEPT} is of no use: {error}")
        return None
    if problem:
        say(f"Measured again, since {kept['taken']} {problem}")
        return None
    ratio = next(way.ratio for way in ways if way.name == kept["taken"])
    say(
        f"Taken: {kept['taken']}, {ratio:.2f} times as fast as eager when it was measured; to measure again remove {folder}"
    )
    return best, ways


def _again(trial: _Trial, name: str, folder: Path) -> Backend:
    if name not in _FORMATS:
        return _make(trial, name, folder, {})
    (path,) = [f for f in (folder / _FORMATS[name]).iterdir() if is_exported(f)]
    return _FileOfModel(path, trial.backend)


def _keep(name: str, ways: Sequence[Way], folder: Path, key: str) -> None:
    write_json(folder / _KEPT, {"key": key, "taken": name, "ways": [asdict(way) for way in ways]})


def _remove(folder: Path, name: str) -> None:
    if name in _FORMATS:
        shutil.rmtree(folder / _FORMATS[name], ignore_errors=True)


# -- int8 -------------------------------------------------------------------------------------


def _lossy_files(name: str) -> list[Path]:
    """Return the files of int8 that ``detectron2 export`` wrote beside a run."""
    return sorted(f for f in Path(name).glob("*-int8*") if is_exported(f)) if Path(name).is_dir() else []


def _loss(path: Path) -> str:
    """Say what 8 bits cost, from the table beside the file."""
    table = path.with_name(path.name + ".agreement.md")
    lines = table.read_text(encoding="utf-8").splitlines() if table.is_file() else []
    start = next((i + 2 for i, line in enumerate(lines) if line.startswith("| figure |")), len(lines))
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in lines[start:]
        if line.startswith("|")
    ]
    figures = [f"{row[0]} {row[1]} -> {row[2]}" for row in rows if row[0].endswith("AP")]
    return "8 bits are not exact" + (f" ({', '.join(figures)})" if figures else "")
