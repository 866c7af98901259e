"""Saving and loading a model together with its optimizer, schedule and other objects that have a state."""

import logging
import os
import re
import shutil
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from detectron2.utils.file_io import PathManager
from detectron2.utils.suggest import did_you_mean
from detectron2.utils.unwrap import unwrap_model

from .errors import BrokenCheckpointError
from .files.read import is_whole, read_checkpoint_file
from .files.shards import SHARDS, is_sharded, spread_like
from .files.storage import is_local, remove_leftovers, write_text
from .files.torch_files import write_checkpoint_file
from .input_channels import adapt_input_channels
from .load_report import LoadReport
from .model_card import MODEL_CARD_KEY

__all__ = ["Checkpointer", "IncompatibleKeys"]

TAG_FILE = "last_checkpoint"


class IncompatibleKeys(NamedTuple):
    """Names without a match; ``incorrect_shapes`` holds name, shape in the file and shape in the model."""

    missing_keys: list[str]
    unexpected_keys: list[str]
    incorrect_shapes: list[tuple[str, tuple[int, ...], tuple[int, ...]]]


class Checkpointer:
    """Saves and loads a model and other objects that have ``state_dict`` and ``load_state_dict``.

    A checkpoint is a file ``NAME.pth``: ``{"model": state dict, …}``. It is written under another name and then
    renamed, so that a crash at any moment leaves the earlier ones whole; the file ``last_checkpoint`` in the same
    folder names the newest.

    Args:
        model: the model; wrappers of DDP and ``torch.compile`` are taken off.
        save_dir: folder or URL, for :meth:`save` and for resuming.
        save_to_disk: whether this process writes files.
        checkpointables: other objects, saved under these names.

    Attributes:
        model_card: classes and config to store in each checkpoint (see :func:`make_model_card`), or None.
        adapt_input_channels: fit the first convolution of a checkpoint to a model with other image channels.
        last_report: which weights the latest :meth:`load` loaded, and which not.
        resumed_from: checkpoint that :meth:`resume_or_load` resumed from, or None.
    """

    adapt_input_channels = True

    def __init__(
        self,
        model: nn.Module,
        save_dir: str = "",
        *,
        save_to_disk: bool = True,
        **checkpointables: object,
    ) -> None:
        self.model = unwrap_model(model)
        self.checkpointables: dict[str, Any] = {}
        for key, obj in checkpointables.items():
            self.add_checkpointable(key, obj)
        self.logger = logging.getLogger("detectron2.checkpoint")
        self.save_dir = os.fspath(save_dir)
        self.save_to_disk = save_to_disk
        self.path_manager = PathManager
        self.model_card: Mapping[str, Any] | None = None
        self.last_report: LoadReport | None = None
        self.resumed_from: str | None = None

    def add_checkpointable(self, key: str, checkpointable: object) -> None:
        """Save and load one more object under ``key``.

        Raises:
            KeyError: if the key is taken.
            TypeError: if the object lacks ``state_dict`` or ``load_state_dict``.
        """
        if key in self.checkpointables or key == "model":
            raise KeyError(f"something is saved as {key!r} already; choose another name")
        for method in ("state_dict", "load_state_dict"):
            if not callable(getattr(checkpointable, method, None)):
                raise TypeError(
                    f"{key!r} ({type(checkpointable).__name__}) cannot be saved: it has no {method}()"
                )
        self.checkpointables[key] = checkpointable

    # ------------------------------------------------------------------------------------------------- saving
    def save(self, name: str, **kwargs: object) -> None:
        """Write ``{save_dir}/{name}.pth`` and make it the last checkpoint.

        Args:
            name: name of the file, without its extension.
            kwargs: further data to store, such as ``iteration=7``.

        Raises:
            OSError: if it cannot be written; earlier checkpoints are intact.
        """
        if not self.save_dir or not self.save_to_disk:
            return
        data = self._contents(kwargs)
        basename = f"{name}.pth"
        path = os.path.join(self.save_dir, basename)
        self.logger.info(f"saving checkpoint {path}")
        self._write(data, path)
        self.tag_last_checkpoint(basename)

    def _contents(self, extra: Mapping[str, Any]) -> dict[str, Any]:
        """Collect the content of a checkpoint."""
        data: dict[str, Any] = {"model": self.model.state_dict()}
        data.update((key, obj.state_dict()) for key, obj in self.checkpointables.items())
        data.update(extra)
        if self.model_card is not None:
            data.setdefault(MODEL_CARD_KEY, dict(self.model_card))
        return data

    def export(self, name: str, weights: Mapping[str, Any] | None = None, **kwargs: object) -> None:
        """Write only the weights to ``{save_dir}/{name}.pth``, for use rather than for resuming.

        Args:
            name: of the file, without its ending.
            weights: a state dict; the model's own by default.
            kwargs: further data to store, such as ``iteration=7``.
        """
        if not self.save_dir or not self.save_to_disk:
            return
        data: dict[str, Any] = {"model": self.model.state_dict() if weights is None else weights, **kwargs}
        data["weights_only"] = True
        if self.model_card is not None:
            data.setdefault(MODEL_CARD_KEY, dict(self.model_card))
        self._write(data, os.path.join(self.save_dir, f"{name}.pth"))

    def _write(self, data: dict[str, Any], path: str) -> None:
        if is_local(path):
            write_checkpoint_file(data, path)
        else:
            with self.path_manager.open(path, "wb") as f:
                torch.save(data, f)

    def tag_last_checkpoint(self, last_filename_basename: str) -> None:
        """Record a file of the folder as the one to resume from."""
        write_text(os.path.join(self.save_dir, TAG_FILE), last_filename_basename)

    # ------------------------------------------------------------------------------------------------ finding
    def has_checkpoint(self) -> bool:
        """Return whether the folder names a last checkpoint."""
        return bool(self.save_dir) and self.path_manager.exists(os.path.join(self.save_dir, TAG_FILE))

    def get_checkpoint_file(self) -> str:
        """Return the path of the last checkpoint; empty if there is none."""
        try:
            with self.path_manager.open(os.path.join(self.save_dir, TAG_FILE), "r") as f:
                name = f.read().strip()
        except OSError:
            return ""
        return os.path.join(self.save_dir, name) if name else ""

    def get_all_checkpoint_files(self) -> list[str]:
        """Return the paths of all ``.pth`` files and ``.shards`` folders in the folder, sorted by name."""
        if not self.save_dir or not self.path_manager.isdir(self.save_dir):
            return []
        names = sorted(n for n in self.path_manager.ls(self.save_dir) if n.endswith((".pth", SHARDS)))
        paths = [os.path.join(self.save_dir, os.path.basename(n)) for n in names]
        return [p for p in paths if self.path_manager.isfile(p) or p.endswith(SHARDS)]

    def remove_checkpoint(self, path: str) -> None:
        """Remove a checkpoint of this folder, if this process writes and it is there."""
        if self.save_to_disk and self.path_manager.exists(path):
            if path.endswith(SHARDS):
                shutil.rmtree(path)
            else:
                self.path_manager.rm(path)

    def newest_whole_checkpoint(self) -> str:
        """Return the path of the newest whole checkpoint, the last one first; empty if none is whole.

        The log names each file that is skipped, with the reason.
        """
        tagged = self.get_checkpoint_file()
        if tagged and not is_local(tagged):
            return tagged  # remote stores write whole objects
        others = [p for p in self.get_all_checkpoint_files() if is_local(p) and p != tagged]
        others.sort(key=lambda p: (os.path.getmtime(p), p), reverse=True)
        for path in ([tagged] if tagged else []) + others:
            if is_whole(path):
                if path != tagged and _is_export(path):
                    continue
                if tagged and path != tagged:
                    self.logger.warning(f"{tagged} is missing, truncated or damaged; going on from {path}")
                return path
            self.logger.error(f"{path} is missing, truncated or damaged and is passed over")
        return ""

    # ------------------------------------------------------------------------------------------------ loading
    def load(self, path: str, checkpointables: list[str] | None = None) -> dict[str, Any]:
        """Load a checkpoint into the model and the other objects.

        Args:
            path: local path or any URL that ``PathManager`` reads; empty to load nothing.
            checkpointables: names of the other objects to load; None for all that the file has.

        Returns:
            The rest of the file's content, such as ``{"iteration": 7}``.

        Raises:
            FileNotFoundError: if there is no such file.
            BrokenCheckpointError, UnsafeCheckpointError: see :func:`read_checkpoint_file`.
        """
        if not path:
            self.logger.info("no checkpoint was named; the model keeps its initial weights")
            return {}
        self.logger.info(f"loading checkpoint {path}")
        return self._apply(self._load_file(self._local(path)), path, checkpointables)

    def _local(self, path: str) -> str:
        local = self.path_manager.get_local_path(path)
        if not os.path.isfile(local) and not (local.endswith(SHARDS) and os.path.isdir(local)):
            folder = os.path.dirname(local) or "."
            near = [n for n in os.listdir(folder) if not n.startswith(".")] if os.path.isdir(folder) else []
            hint = (
                did_you_mean(os.path.basename(local), near)
                if near
                else f"The folder {folder!r} holds nothing."
            )
            raise FileNotFoundError(f"there is no checkpoint {path!r}. {hint}")
        return local

    def _apply(
        self, checkpoint: dict[str, Any], path: str, checkpointables: list[str] | None
    ) -> dict[str, Any]:
        """Load the parts of a checkpoint into their objects; return the rest."""
        self.last_report = LoadReport(path=path)
        incompatible = self._load_model(checkpoint)
        checkpoint.pop("model", None)
        if incompatible is not None:  # overriding methods may return nothing
            self._log_incompatible_keys(incompatible)
        for key in self.checkpointables if checkpointables is None else checkpointables:
            if key in checkpoint:
                self.logger.info(f"loading {key} from {path}")
                self.checkpointables[key].load_state_dict(checkpoint.pop(key))
        return checkpoint

    def _load_file(self, filename: str) -> dict[str, Any]:
        """Read a local file; override to read other kinds. Must return ``{"model": weights, …}``."""
        return read_checkpoint_file(filename)

    def _load_model(self, checkpoint: dict[str, Any]) -> IncompatibleKeys | None:
        """Load ``checkpoint["model"]``; override to rename weights first."""
        weights = as_tensors(checkpoint["model"])
        weights = strip_prefix(weights)
        report = self.last_report = self.last_report or LoadReport()
        state = self.model.state_dict()
        if self.adapt_input_channels:
            weights, report.adapted = adapt_input_channels(weights, state)
        wrong = [
            (name, tuple(weights[name].shape), tuple(value.shape))
            for name, value in state.items()
            if name in weights and isinstance(value, torch.Tensor) and weights[name].shape != value.shape
        ]
        for name, _, _ in wrong:
            del weights[name]
        shapeless = {name for name, _, _ in wrong}
        weights = {k: spread_like(v, state.get(k)) for k, v in weights.items()}
        result = self.model.load_state_dict(weights, strict=False)
        missing = [k for k in result.missing_keys if k not in shapeless]
        report.mismatched = list(wrong)
        report.missing = _drop_aliases(missing, state, weights)
        report.unexpected = list(result.unexpected_keys)
        report.loaded = [k for k in weights if k in state]
        return IncompatibleKeys(report.missing, report.unexpected, wrong)

    def _log_incompatible_keys(self, incompatible: IncompatibleKeys) -> None:
        """Log a table of the weights that were loaded and those that were not."""
        report = self.last_report or LoadReport()
        report.missing = list(incompatible.missing_keys)
        report.unexpected = list(incompatible.unexpected_keys)
        report.mismatched = list(incompatible.incorrect_shapes)
        if report.complete:
            self.logger.info(report.table())
        else:
            self.logger.warning(report.table())

    def resume_or_load(self, path: str, *, resume: bool = True) -> dict[str, Any]:
        """Resume from the last checkpoint of the folder if there is one, else load only the model from ``path``.

        If the last checkpoint is truncated or damaged, the one before it is used.

        Args:
            path: weights to start from when not resuming.
            resume: whether to look for a last checkpoint.

        Returns:
            The rest of the file's content, with ``"iteration"`` after resuming.

        Raises:
            BrokenCheckpointError: if there are checkpoints to resume from but none is whole.
        """
        found = self._choose_resume() if resume else ""
        self.resumed_from = found or None
        if found:
            return self.load(found)
        return self.load(path, checkpointables=[])

    def _choose_resume(self) -> str:
        if not self.has_checkpoint():
            return ""
        if self.save_to_disk and is_local(self.save_dir):
            remove_leftovers(self.save_dir)
        found = self.newest_whole_checkpoint()
        if not found:
            raise BrokenCheckpointError(
                f"{self.save_dir!r} names a checkpoint to resume from, but no checkpoint there is whole. Start again "
                "without resuming, or in another folder."
            )
        return found


def _is_export(path: str) -> bool:
    """Return whether a whole file was written by :meth:`Checkpointer.export`: there is nothing to resume in it."""
    if path.endswith(SHARDS):
        return False
    content = read_checkpoint_file(path, mmap=True)
    return isinstance(content, Mapping) and bool(content.get("weights_only"))


def as_tensors(weights: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """Convert arrays to tensors.

    Raises:
        TypeError: if something is neither.
    """
    result = {}
    for name, value in weights.items():
        if isinstance(value, np.ndarray):
            value = torch.from_numpy(np.ascontiguousarray(value).reshape(value.shape))
        if not isinstance(value, torch.Tensor) and not name.endswith("_extra_state"):
            raise TypeError(
                f"the checkpoint holds {name!r} as {type(value).__name__}; expected a tensor or an array"
            )
        result[name] = value
    return result


def strip_prefix(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Take off ``module.`` (DDP) and ``_orig_mod.`` (``torch.compile``) where every name begins with it."""
    pattern = re.compile(r"^(?:module|_orig_mod)\.")
    while weights and all(pattern.match(k) for k in weights):
        weights = {pattern.sub("", k): v for k, v in weights.items()}
    return weights


def _drop_aliases(missing: list[str], state: Mapping[str, Any], loaded: Mapping[str, Any]) -> list[str]:
    """Drop names that share their tensor with a loaded name, as those of shared heads do."""
    filled = {
        (v.data_ptr(), v.shape)
        for k, v in state.items()
        if k in loaded and isinstance(v, torch.Tensor) and v.numel() > 0 and not (v.is_meta or is_sharded(v))
    }
    return [
        k
        for k in missing
        if not (isinstance(state.get(k), torch.Tensor) and (state[k].data_ptr(), state[k].shape) in filled)
    ]
