"""The common interface of both kinds of config, for training, evaluation and inference."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, ClassVar, Literal

import torch
from torch import nn
from torch.optim.lr_scheduler import LRScheduler

from detectron2.checkpoint import make_model_card
from detectron2.config.training_options import OPTIONS, Length, Option, TrainingOptions
from detectron2.config.types import Config
from detectron2.data import MetadataCatalog
from detectron2.data.transforms import Augmentation
from detectron2.evaluation import DatasetEvaluator
from detectron2.utils.errors import UnknownNameError

from .lengths import has_epochs, parse_length, scale_length

__all__ = ["Part", "RunConfig"]

logger = logging.getLogger(__name__)

Part = Literal["train", "test"]


class RunConfig(ABC):
    """A config of either kind behind one interface.

    Methods named by an imperative (``put``, ``override``, ``set_data``) change the config in place. Those named by a
    participle (``copied``, ``rescaled``, ``resolved``) return a changed copy.

    Args:
        cfg: the config; it is not copied.
    """

    kind: ClassVar[Literal["yacs", "lazy"]]
    batch_path: ClassVar[str]
    """Path of the number of images per batch, over all processes."""
    rate_path: ClassVar[str]
    """Path of the learning rate."""
    workers_path: ClassVar[str]
    """Path of the number of worker processes of the training loader."""
    length_paths: ClassVar[tuple[str, ...]]
    """Paths of the lengths of training, in iterations or epochs; a value may be a list of lengths."""

    def __init__(self, cfg: Config) -> None:
        self.cfg = cfg

    # -- values -------------------------------------------------------------------------------

    @staticmethod
    @abstractmethod
    def path_of(option: Option) -> str:
        """Return the dotted path of a training option."""

    def get(self, path: str, default: object = None) -> Any:
        """Return the value at a dotted path; the default if it is missing or None."""
        node: Any = self.cfg
        for part in path.split("."):
            node = node.get(part) if hasattr(node, "keys") else None
            if node is None:
                return default
        return node

    @abstractmethod
    def set(self, path: str, value: object) -> None:
        """Set the value at a dotted path."""

    def put(self, **options: object) -> None:
        """Set training options by the names of the fields of ``TrainingOptions``."""
        for name, value in options.items():
            self.set(self.path_of(OPTIONS[name]), value)

    @abstractmethod
    def override(self, changes: Sequence[str]) -> None:
        """Apply changes from a command line: ``KEY VALUE`` words, or ``key=value`` for a Python config."""

    @property
    def options(self) -> TrainingOptions:
        """The training options, with defaults for those that the config lacks."""
        found = {name: self.get(self.path_of(option)) for name, option in OPTIONS.items()}
        return TrainingOptions(**{name: value for name, value in found.items() if value is not None})

    @abstractmethod
    def copied(self) -> RunConfig:
        """Return an independent copy, frozen if this one is."""

    @abstractmethod
    def thawed(self) -> AbstractContextManager[None]:
        """Allow changes of a frozen config within a ``with`` block."""

    # -- text ---------------------------------------------------------------------------------

    @abstractmethod
    def save(self, path: str) -> None:
        """Write the config to a YAML file."""

    def render(self, form: str = "yaml") -> str:
        """Return the config as text.

        Args:
            form: "yaml", or "py" for assignments, with calls written as calls.

        Raises:
            ValueError: for another form.
        """
        if form not in ("yaml", "py"):
            raise ValueError(f"form must be 'yaml' or 'py', got {form!r}")
        return self._as_yaml() if form == "yaml" else self._as_python()

    @abstractmethod
    def _as_yaml(self) -> str: ...

    @abstractmethod
    def _as_python(self) -> str: ...

    @abstractmethod
    def as_dict(self) -> dict[str, Any]:
        """Return nested plain dictionaries, with interpolations resolved."""

    # -- parts --------------------------------------------------------------------------------

    @abstractmethod
    def model(self) -> nn.Module:
        """Build the model, on its device."""

    @abstractmethod
    def optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        """Build the optimizer for a model's parameters."""

    @abstractmethod
    def schedule(self, optimizer: torch.optim.Optimizer) -> LRScheduler:
        """Build the learning rate schedule for an optimizer."""

    @abstractmethod
    def train_loader(self) -> Iterable[Any]:
        """Build the endless stream of training batches."""

    @abstractmethod
    def test_loader(self, dataset_name: str) -> Iterable[Any]:
        """Build the loader of one test dataset."""

    @abstractmethod
    def validation_loader(self) -> Iterable[Any]:
        """Build a loader of the test images with annotations, resized as for testing, without random augmentation."""

    @abstractmethod
    def evaluator(self, dataset_name: str) -> DatasetEvaluator:
        """Build the evaluator of one test dataset."""

    @abstractmethod
    def test_augmentation(self) -> Augmentation:
        """Build the augmentation that prepares an image for testing."""

    @property
    @abstractmethod
    def input_format(self) -> str:
        """Channel order of the model's input, such as "BGR"."""

    # -- data ---------------------------------------------------------------------------------

    @abstractmethod
    def dataset_names(self, part: Part) -> list[str]:
        """Return the names of the datasets for training or testing."""

    @property
    @abstractmethod
    def test_names(self) -> list[str]:
        """One name for each evaluation; empty if the config has none."""

    @property
    def expected_results(self) -> Sequence[Any]:
        """The expected results for ``verify_results``; empty for no check."""
        return ()

    @property
    @abstractmethod
    def predicts_masks(self) -> bool:
        """Whether the model predicts instance masks."""

    @abstractmethod
    def set_data(self, train: str, test: str, num_classes: int, num_workers: int) -> None:
        """Set the datasets, the number of thing classes and the number of loader processes.

        Raises:
            ValueError: if the config has no key for the number of classes.
        """

    @abstractmethod
    def unfreeze(self) -> None:
        """Unfreeze all layers and statistics of the backbone, for training from random weights."""

    def model_card(self) -> dict[str, Any]:
        """Describe the model in its checkpoints: its classes and, if it can be written as text, its config."""
        names = self.dataset_names("train")
        known = bool(names) and names[0] in MetadataCatalog
        return make_model_card(
            classes=MetadataCatalog.get(names[0]).get("thing_classes") if known else None,
            **self._card_config(),
        )

    def _card_config(self) -> Mapping[str, str]:
        """Return the entries of the model card that hold the config."""
        return {}

    # -- lengths ------------------------------------------------------------------------------

    @property
    @abstractmethod
    def warmup(self) -> float:
        """Number of warm-up iterations."""

    @warmup.setter
    @abstractmethod
    def warmup(self, iterations: float) -> None: ...

    @property
    def batch_size(self) -> int:
        """Number of images per batch, over all processes.

        Raises:
            KeyError: if the config does not define it.
        """
        found = self.get(self.batch_path)
        if found is None:
            raise UnknownNameError(f"the config has no {self.batch_path}, the number of images per batch")
        return int(found)

    def map_lengths(self, change: Callable[[Length], Length]) -> None:
        """Replace every length, in place."""
        for path in self.length_paths:
            value = self.get(path)
            if isinstance(value, (int, str)):
                self.set(path, change(value))
            elif value is not None:
                # In a short training, two steps may become equal.
                self.set(path, tuple(dict.fromkeys(change(entry) for entry in value)))

    def resolved(self, count_images: Callable[[], int | None]) -> RunConfig:
        """Replace epochs by iterations.

        Args:
            count_images: returns the number of training images, or None if unknown; called only if there are epochs.

        Returns:
            A changed copy, or this object itself if no length is in epochs.

        Raises:
            ValueError: see :func:`parse_length`.
        """
        if not has_epochs(self.get(path) for path in self.length_paths):
            return self
        size, options = count_images(), self.options
        per_epoch = None
        if size is not None and self.get(self.batch_path):
            images = self.batch_size * options.accumulate_steps
            per_epoch = size / images
            logger.info("One epoch is %.1f iterations (%d images, %d per step).", per_epoch, size, images)
        result = self.copied()
        with result.thawed():
            result.map_lengths(lambda value: parse_length(value, per_epoch))
        return result

    def rescaled(self, batch_size: int, max_iter: int | None = None) -> RunConfig:
        """Change the batch size, and scale the learning rate and all lengths accordingly.

        The rate grows with the batch size and lengths shrink, so that training sees the same number of images
        (Goyal et al., https://arxiv.org/abs/1706.02677). Lengths in epochs do not change.

        Args:
            batch_size: images per batch, over all processes.
            max_iter: new length of the training, in proportion to which the other lengths change; None keeps the
                number of images.

        Returns:
            A changed copy.
        """
        growth = batch_size / self.batch_size
        old_length = self.options.max_iter
        factor = 1 / growth if max_iter is None else max_iter / parse_length(old_length, None)
        result = self.copied()
        with result.thawed():
            result.set(self.batch_path, batch_size)
            rate = self.get(self.rate_path)
            if rate is not None:
                result.set(self.rate_path, rate * growth)
            result.map_lengths(lambda value: scale_length(value, factor))
            if max_iter is not None:
                result.put(max_iter=max_iter)
        return result

    def scaled_to(self, num_processes: int) -> RunConfig:
        """Scale a config written for ``SOLVER.REFERENCE_WORLD_SIZE`` processes to another number of processes.

        Each process keeps its number of images; see :meth:`rescaled`.

        Returns:
            A changed copy, or this object itself if the reference is 0 or the same number.

        Raises:
            ValueError: if the batch size is not a multiple of the reference.
        """
        option, reference = OPTIONS["reference_world_size"], self.options.reference_world_size
        if reference in (0, num_processes):
            return self
        batch = self.batch_size
        if batch % reference:
            raise ValueError(
                f"{self.batch_path} must be a multiple of {self.path_of(option)} {reference}, got {batch}"
            )
        result = self.rescaled(batch // reference * num_processes)
        with result.thawed():
            result.put(reference_world_size=num_processes)
        logger.info(
            "Scaled from %d to %d processes: %d images per batch, learning rate %.6g, %s iterations.",
            reference,
            num_processes,
            result.batch_size,
            result.get(self.rate_path, float("nan")),
            result.options.max_iter,
        )
        return result

    def in_this_process(self) -> RunConfig:
        """Return a copy that loads training data without worker processes."""
        result = self.copied()
        with result.thawed():
            result.set(self.workers_path, 0)
        return result
