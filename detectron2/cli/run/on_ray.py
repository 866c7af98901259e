"""The commands ``train``, ``predict`` and ``eval`` on Ray."""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import os
import pickle
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from detectron2.data import DatasetCatalog
from detectron2.engine.on_ray import import_ray, restore_checkpoint, train_on_ray
from detectron2.engine.run_config import RunConfig
from detectron2.engine.run_folder import RunCard
from detectron2.prediction import Predictor
from detectron2.prediction.inputs import to_rgb
from detectron2.prediction.records import best_first, count_objects, output_record
from detectron2.prediction.selection import on_cpu
from detectron2.utils.file_io.atomic import write_json
from detectron2.utils.file_io.text import read_json
from detectron2.utils.image_io import READ_ERRORS
from detectron2.utils.logger import log_every_n_seconds

from ..errors import UserError
from .datasets import VAL, register
from .evaluation import Parts, evaluation_parts
from .recipe import chosen_device
from .trust import trusting

__all__ = ["PredictionFile", "RayEngine", "predictions_on_ray", "ray_engine", "remote_parts"]

SAID_EVERY = 30
"""Seconds between two lines that say how many pictures are done."""

Allowed = tuple[Sequence[str], bool]
"""Arguments of ``trusting``."""

_IMAGES = (
    "image",
    "instances",
    "sem_seg",
    "annotations",
    "proposals",
)  # of inputs; evaluators do not read them


@dataclass(frozen=True)
class RayEngine:
    """How a command uses Ray.

    Attributes:
        num_workers: processes.
        device: of each process.
        allowed: what configs may name.
        storage: of trainings; None is the folder ``ray`` in that of the run.
        folder: where the command runs; relative names are meant from there.
    """

    num_workers: int
    device: str
    allowed: Allowed = ((), False)
    storage: str | None = None
    folder: str = field(default_factory=os.getcwd)

    def enter(self) -> None:
        """Prepare a process of Ray, which begins in a folder of its own."""
        if os.path.isdir(self.folder):
            os.chdir(self.folder)

    @property
    def num_gpus(self) -> int:
        """GPUs of each process."""
        return int(self.device.startswith("cuda"))

    def train(self, worker: Callable[..., None], folder: Path, *, resume: bool) -> None:
        """Call ``worker(resume)`` in each process, and bring its checkpoints into ``folder``.

        Args:
            worker: trains in one process.
            folder: of the run.
            resume: go on with the training that Ray has for this folder.
        """
        kind = "GPU" if self.num_gpus else "CPU"
        # Ray waits for machines to join its cluster, but one that was started here stays as it is.
        if not os.environ.get("RAY_ADDRESS"):
            there = int(import_ray().cluster_resources().get(kind, 0))
            if there < self.num_workers:
                raise UserError(
                    f"--num-workers is {self.num_workers}, but Ray has {there} {kind}(s) here, one for each process: give "
                    "fewer, or the address of a larger cluster in RAY_ADDRESS"
                )
        place = self._place(folder, resume)
        result = train_on_ray(
            self._train_here,
            self.num_workers,
            args=(worker, str(folder), resume),
            use_gpu=self.num_gpus > 0,
            storage=place["storage"],
            name=place["name"],
        )
        if result.checkpoint is not None:
            restore_checkpoint(folder, result.checkpoint)

    def _train_here(self, worker: Callable[[bool], None], folder: str, resume: bool) -> None:
        self.enter()
        worker(restore_checkpoint(folder) or resume)

    def _place(self, folder: Path, resume: bool) -> dict[str, str]:
        """Return storage and name of the training, which ``ray.json`` in the folder of the run remembers."""
        file = folder / "ray.json"
        if resume and file.is_file():
            known: dict[str, str] = read_json(file)
            return known
        name = f"{folder.name}-{time.strftime('%Y%m%d-%H%M%S')}"
        place = {"storage": self.storage or str((folder / "ray").absolute()), "name": name}
        write_json(file, place)
        return place

    def map(
        self, rows: Sequence[Mapping[str, object]], kind: type, args: tuple[object, ...], batch: int
    ) -> Iterable[Any]:
        """Map batches of rows by objects of a class, one in each process, and yield the rows of the results."""
        ray = import_ray()
        ray.data.DataContext.get_current().enable_progress_bars = False
        data = ray.data.from_items(rows).map_batches(
            kind, fn_constructor_args=args, batch_size=batch, num_cpus=1, num_gpus=self.num_gpus,
            compute=ray.data.ActorPoolStrategy(size=self.num_workers),
        )  # fmt: skip
        yield from data.iter_rows()


def ray_engine(args: argparse.Namespace) -> RayEngine | None:
    """Return how a command uses Ray; None without ``--engine``.

    Raises:
        UserError: an option does not fit.
        ImportError: Ray is not installed.
    """
    if args.engine is None:
        for name in ("num_workers", "storage"):
            if getattr(args, name, None) is not None:
                raise UserError(f"--{name.replace('_', '-')} goes with --engine ray")
        return None
    workers = 1 if args.num_workers is None else args.num_workers
    if workers < 1:
        raise UserError(f"--num-workers is {workers}, but Ray needs at least 1 process")
    device = _device_on_ray(args.device)
    return RayEngine(workers, device, (args.imports, args.trust), getattr(args, "storage", None))


def _device_on_ray(name: str | None) -> str:
    """Return the requested device of each process, or the best one: a GPU if the cluster has any."""
    if name and name.startswith("cuda:"):
        raise UserError(f"--device is {name!r}, but Ray gives each process a GPU: --device cuda")
    import_ray(connect=False)
    # The machine of this command may lack the GPUs that others of the cluster have.
    if os.environ.get("RAY_ADDRESS") and name in (None, "cuda"):
        if name or import_ray().cluster_resources().get("GPU"):
            return "cuda"
    return chosen_device(name)


# ------------------------------------------------------------------ predictions
class _PredictWorker:
    """Predicts for batches of file names; a file that cannot be read gives an error in place of a record.

    Args:
        engine: says where relative names begin, and what configs may name.
        options: arguments of ``Predictor``.
        tta: sizes of test-time augmentation; None for none.
    """

    def __init__(self, engine: RayEngine, options: Mapping[str, Any], tta: Sequence[int] | None) -> None:
        engine.enter()
        with trusting(*engine.allowed):
            self.predictor = Predictor(**options, input_format="RGB")
        if tta is not None:
            self.predictor.augment(tta)

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        sources = [str(source) for source in batch["source"]]
        rows = {source: {"line": "", "error": ""} for source in sources}
        images = {}
        for source in sources:
            try:
                images[source] = to_rgb(source)
            except (*READ_ERRORS, ValueError) as error:
                rows[source]["error"] = str(error)
        for source, outputs in zip(images, self.predictor(list(images.values())) if images else ()):
            height, width = images[source].shape[:2]
            found = output_record(best_first(on_cpu(outputs)), self.predictor.metadata)
            record = {"file_name": source, "height": height, "width": width, **found}
            rows[source]["line"] = json.dumps(record)
        return {
            "source": np.array(sources, object),
            **{k: np.array([rows[s][k] for s in sources], object) for k in ("line", "error")},
        }


class PredictionFile:
    """A file of JSON lines, one for each picture, to which an interrupted prediction adds what is missing.

    Args:
        path: of the file.
        resume: keep its whole lines; otherwise begin anew.

    Attributes:
        done: files whose line is there.
        objects: number of things that were found.
    """

    def __init__(self, path: Path, resume: bool) -> None:
        self.done: set[str] = set()
        self.objects = 0
        path.parent.mkdir(parents=True, exist_ok=True)
        kept = self._whole_lines(path) if resume and path.is_file() else 0
        self._file = open(path, "r+b" if kept else "wb")
        self._file.truncate(kept)
        self._file.seek(kept)

    def _whole_lines(self, path: Path) -> int:
        """Read the lines that are complete, and return their size."""
        size = 0
        with open(path, "rb") as file:
            for line in file:
                try:
                    self._count(json.loads(line))
                except (ValueError, KeyError, TypeError):  # the process was killed while it wrote
                    break
                size += len(line)
        return size

    def _count(self, record: dict[str, Any]) -> None:
        self.done.add(record["file_name"])
        self.objects += count_objects(record)

    def add(self, line: str) -> None:
        """Add a record."""
        self._count(json.loads(line))
        self._file.write(line.encode() + b"\n")
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def predictions_on_ray(
    engine: RayEngine,
    options: Mapping[str, Any],
    sources: Sequence[str],
    file: PredictionFile,
    tta: Sequence[int] | None = None,
) -> dict[str, str]:
    """Predict for the pictures that are not in a file yet, and add them.

    Args:
        engine: the processes.
        options: arguments of ``Predictor``.
        sources: picture files, which all machines reach.
        file: gets the records, in the order in which they are ready.
        tta: sizes of test-time augmentation; None for none.

    Returns:
        The reason for each picture that cannot be read.
    """
    todo = [{"source": source} for source in sources if source not in file.done]
    broken = {}
    if todo:
        batch = max(1, int(options.get("batch_size", 1)))
        for row in engine.map(todo, _PredictWorker, (engine, options, tta), batch):
            if row["error"]:
                broken[row["source"]] = row["error"]
            else:
                file.add(row["line"])
            done = len(file.done) + len(broken)
            log_every_n_seconds(logging.INFO, f"{done} of {len(sources)} pictures are done", SAID_EVERY)
    return broken


# ------------------------------------------------------------------ evaluations
class _EvalWorker:
    """Runs the model of a run on batches of indices of its validation data."""

    def __init__(
        self,
        engine: RayEngine,
        run: RunConfig,
        card: RunCard,
        folder: Path,
        weights: str,
        tta: Sequence[int] | None,
    ) -> None:
        engine.enter()
        with trusting(*engine.allowed):
            register(card, train=False)
            self.model, loader = evaluation_parts(run, card, folder, weights, tta)
        self.samples = loader.dataset  # type: ignore[attr-defined]
        if isinstance(self.model, torch.nn.Module):
            self.model.eval()

    @torch.no_grad()
    def __call__(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        found = []
        for index in batch["index"]:
            sample = self.samples[int(index)]
            outputs = on_cpu(self.model([sample])[0])
            inputs = {k: v for k, v in sample.items() if k not in _IMAGES}
            # Masks are large, and nearly all of their bytes are zero.
            found.append(zlib.compress(pickle.dumps((inputs, outputs)), 1))
        return {"index": batch["index"], "found": np.array(found, object)}


class RemoteEvaluation:
    """Model and loader of an evaluation at once: it yields inputs whose outputs were computed on Ray.

    Args:
        engine: the processes.
        run, card, folder, weights, tta: see ``evaluate_run``.
    """

    def __init__(
        self,
        engine: RayEngine,
        run: RunConfig,
        card: RunCard,
        folder: Path,
        weights: str,
        tta: Sequence[int] | None,
    ) -> None:
        self._engine, self._args = engine, (run, card, folder, weights, tta)
        self._records = DatasetCatalog.get(VAL)
        self._todo = list(range(len(self._records)))
        self._outputs: object = None
        # What was evaluated before counts only for the same weights and settings.
        self.identity = hashlib.sha256(Path(weights).read_bytes() + f"{run.cfg} {tta}".encode()).hexdigest()

    def __len__(self) -> int:
        return len(self._todo)

    def without(self, is_done: Callable[[Mapping[str, Any]], bool]) -> RemoteEvaluation:
        """Return the part of the evaluation with images that are not done."""
        self._todo = [index for index in self._todo if not is_done(self._records[index])]
        return self

    def __iter__(self) -> Iterator[list[dict[str, Any]]]:
        rows = [{"index": index} for index in self._todo]
        for row in self._engine.map(rows, _EvalWorker, (self._engine, *self._args), 1) if rows else ():
            inputs, self._outputs = pickle.loads(zlib.decompress(row["found"]))
            yield [inputs]

    def __call__(self, batch: object) -> list[Any]:
        """Return the outputs for the batch that was yielded last."""
        return [self._outputs]


def remote_parts(engine: RayEngine) -> Parts:
    """Return what makes model and loader of an evaluation on Ray, see ``evaluate_run``."""

    def remote(
        run: RunConfig, card: RunCard, folder: Path, weights: str, tta: Sequence[int] | None
    ) -> tuple[RemoteEvaluation, RemoteEvaluation]:
        both = RemoteEvaluation(engine, run, card, folder, weights, tta)
        return both, both

    return remote
