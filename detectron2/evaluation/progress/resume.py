"""Evaluations that can be interrupted: the results of each batch are saved, and not computed again."""

from __future__ import annotations

import functools
import glob
import hashlib
import logging
import os
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.utils import data as torchdata

from detectron2.utils import comm

from ..evaluator import DatasetEvaluator, DatasetEvaluators, Loader, Progress, start_progress
from .per_image import PerImageEvaluator
from .records import RecordWriter, read_records

__all__ = ["RecordedProgress", "resumable_evaluation"]

_FORMAT = 1
_PATTERN = "evaluated-{title}.{rank}.records"


@contextmanager
def resumable_evaluation(folder: str, resume: bool = True) -> Generator[None, None, None]:
    """Save the results of every ``inference_on_dataset`` in this block, batch by batch.

    After an interruption, evaluating the same model on the same data with the same evaluators reuses these results. If
    the model is deterministic, the metrics equal those of an uninterrupted run bit for bit. The number of processes may
    change. The files stay in ``folder`` until the next evaluation there with ``resume=False``.

    All evaluators of this package can be resumed; others run without saving, with a warning.

    Args:
        folder: folder for the files ``evaluated-*.records``, the same for all processes.
        resume: whether to continue from existing files; False removes them first.
    """
    if not resume:
        comm.synchronize()
        if comm.is_main_process():
            for path in glob.glob(os.path.join(glob.escape(folder), "evaluated-*.records")):
                os.remove(path)
        comm.synchronize()
    token = start_progress.set(functools.partial(_start, folder=folder, resume=resume))
    try:
        yield
    finally:
        start_progress.reset(token)


class RecordedProgress(Progress):
    """Saves the batches that are done, in one file per process.

    Args:
        folder: folder of the files.
        title: identifies this evaluation.
        evaluators: evaluators whose summaries are saved.
    """

    def __init__(self, folder: str, title: str, evaluators: Sequence[PerImageEvaluator]) -> None:
        self._evaluators = evaluators
        self.done: set[Any] = set()
        os.makedirs(folder, exist_ok=True)
        rank, world = comm.get_rank(), comm.get_world_size()
        own = os.path.join(folder, _PATTERN.format(title=title, rank=rank))
        end = 0
        for path in self._files(folder, title):
            number = int(path.split(".")[-2])
            for (keys, summaries), place in read_records(path):
                self._take(keys, summaries if number % world == rank else None)
                if path == own:
                    end = place
        comm.synchronize()  # every process must read all files before any of them changes
        self._writer = RecordWriter(own, keep=end)
        for evaluator in evaluators:
            evaluator.record(True)

    @staticmethod
    def _files(folder: str, title: str) -> list[str]:
        pattern = os.path.join(glob.escape(folder), _PATTERN.format(title=title, rank="*"))
        return sorted(glob.glob(pattern), key=lambda path: int(path.split(".")[-2]))

    def _take(self, keys: Sequence[Any], summaries: Sequence[Sequence[Any]] | None) -> None:
        """Add a saved batch, except images that were in another file."""
        new = [k for k, key in enumerate(keys) if key not in self.done]
        self.done.update(keys)
        for evaluator, own in zip(self._evaluators, summaries or ()):
            for k in new:
                evaluator.take(own[k])

    def remaining(self, loader: Any) -> Loader:
        """Return the batches of ``loader`` with images that are not done."""
        if not self.done:
            return loader
        if hasattr(loader, "without"):  # it leaves images out before it computes anything
            return loader.without(lambda record: key_of(record) in self.done)
        keys = _keys_behind(loader)
        if keys is None:
            return _Remaining(loader, lambda batch: all(key_of(x) in self.done for x in batch))
        todo = [batch for batch in loader.batch_sampler if not all(keys(i) in self.done for i in batch)]
        return torchdata.DataLoader(
            loader.dataset,
            batch_sampler=todo,
            num_workers=loader.num_workers,
            collate_fn=loader.collate_fn,
            pin_memory=loader.pin_memory,
            worker_init_fn=loader.worker_init_fn,
        )

    def without_done(self, inputs: Any, outputs: Any) -> tuple[Any, Any]:
        """Return the part of a batch that is not done; the number of processes may have changed."""
        if not self.done:
            return inputs, outputs
        new = [k for k, record in enumerate(inputs) if key_of(record) not in self.done]
        return [inputs[k] for k in new], [outputs[k] for k in new]

    def add(self, inputs: Sequence[Mapping[str, Any]]) -> None:
        """Save the evaluators' summaries of a batch."""
        recorded = [evaluator.recorded() for evaluator in self._evaluators]
        for evaluator, summaries in zip(self._evaluators, recorded):
            if len(summaries) != len(inputs):
                raise ValueError(
                    f"{type(evaluator).__name__} cannot be resumed: its process() got {len(inputs)} images and recorded "
                    f"{len(summaries)}. Call super().process(), or evaluate outside of resumable_evaluation()."
                )
        self._writer.append([[key_of(record) for record in inputs], recorded])

    def close(self) -> None:
        """Close the file, and stop recording."""
        self._writer.close()
        for evaluator in self._evaluators:
            evaluator.record(False)


class _Remaining:
    """The batches of any loader that are not done; loads all batches and skips the others."""

    def __init__(self, loader: Loader, is_done: Callable[[Any], bool]) -> None:
        self._loader, self._is_done = loader, is_done

    def __len__(self) -> int:
        return len(self._loader)

    def __iter__(self) -> Iterator[Any]:
        return (batch for batch in self._loader if not self._is_done(batch))


def _start(
    model: Callable[[Any], Any], loader: Any, evaluator: DatasetEvaluator, *, folder: str, resume: bool
) -> Progress:
    """Read the results of earlier runs; nothing is saved if an evaluator does not support it."""
    parts = _flat(evaluator)
    others = [type(e).__name__ for e in parts if not isinstance(e, PerImageEvaluator)]
    logger = logging.getLogger(__name__)
    if others or not parts:
        logger.warning("This evaluation cannot be resumed: %s do not support it.", others or "no evaluators")
        return Progress()
    chosen = [e for e in parts if isinstance(e, PerImageEvaluator)]
    progress = RecordedProgress(folder, title_of(model, loader, chosen), chosen)
    if progress.done:
        logger.info("%d images have already been evaluated (%s).", len(progress.done), folder)
    elif resume:
        logger.info("No results of this model on this data in %s: all images are evaluated.", folder)
    return progress


def _flat(evaluator: DatasetEvaluator) -> list[DatasetEvaluator]:
    if isinstance(evaluator, DatasetEvaluators):
        return [part for e in evaluator._evaluators for part in _flat(e)]
    return [evaluator]


def key_of(record: Mapping[str, Any]) -> Any:
    """Return the key that identifies an image."""
    key = record.get("image_id", record.get("file_name"))
    if not isinstance(key, (int, str)):
        raise KeyError(
            f"resumable evaluation needs 'image_id' or 'file_name' of inputs, got the keys {sorted(record)}"
        )
    return key


def _keys_behind(loader: Any) -> Callable[[int], Any] | None:
    """Return a function from the index of a record to its key that loads no image; None if there is none."""
    if not isinstance(loader, torchdata.DataLoader) or loader.batch_sampler is None:
        return None
    records = getattr(loader.dataset, "_dataset", None)  # the list behind a MapDataset
    if records is None or not hasattr(records, "__getitem__"):
        return None
    return lambda index: key_of(records[index])


# ------------------------------------------------------------------ identity of an evaluation


def title_of(model: Any, loader: Any, evaluators: Sequence[DatasetEvaluator]) -> str:
    """Return a fingerprint of a model's weights and settings, the preprocessing of images, and the evaluators."""
    digest = hashlib.sha256()
    for line in _describe(model, loader, evaluators):
        digest.update(line if isinstance(line, bytes) else line.encode())
    return digest.hexdigest()[:16]


def _describe(model: Any, loader: Any, evaluators: Sequence[DatasetEvaluator]) -> Iterator[str | bytes]:
    yield f"format {_FORMAT}, torch {torch.__version__}\n"
    for evaluator in evaluators:
        data_set = getattr(evaluator, "_metadata", None) or getattr(evaluator, "_dataset_name", None)
        name = data_set if isinstance(data_set, str) else getattr(data_set, "name", None)
        yield f"{type(evaluator).__qualname__} {name} {_settings(evaluator)}\n"
    mapper = getattr(getattr(loader, "dataset", None), "_map_func", None)
    yield f"{getattr(loader, 'batch_size', None)} {type(mapper).__qualname__} {getattr(mapper, 'augmentations', '')}\n"
    modules: Iterable[Any] = [model]
    if isinstance(model, nn.Module):
        modules = model.modules()
    for module in modules:
        yield f"{type(module).__qualname__} {_settings(module)}\n"
    if isinstance(model, nn.Module):
        for name, tensor in sorted(model.state_dict().items()):
            if isinstance(tensor, torch.Tensor):
                yield f"{name} {tensor.dtype} {list(tensor.shape)}\n"
                yield tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


_PLAIN = (bool, int, float, str, type(None))
_STATE = {"training", "_recorded", "_output_dir", "_distributed"}  # not settings


def _settings(thing: object) -> str:
    """Return the plain attributes of an object, such as thresholds."""

    def plain(value: object) -> bool:
        return isinstance(value, _PLAIN) or (
            isinstance(value, (list, tuple)) and all(isinstance(v, _PLAIN) for v in value)
        )

    own = {k: v for k, v in getattr(thing, "__dict__", {}).items() if k not in _STATE and plain(v)}
    return repr(sorted(own.items()))
