"""Save and load a model together with its optimizer, scheduler and other objects with state."""

import logging
import os
import shutil
from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from torch import nn

from detectron2.utils.errors import NoSuchFile
from detectron2.utils.file_io import PathManager
from detectron2.utils.licences import log_restrictions
from detectron2.utils.memory import is_out_of_memory
from detectron2.utils.suggest import did_you_mean
from detectron2.utils.unwrap import unwrap_model

from .candidates import is_plain_name, resume_order
from .errors import BrokenCheckpointError, brief
from .files.read import holds_training, iteration_of, read_checkpoint_file, verify_checkpoint_file
from .files.shards import SHARDS, spread_like
from .files.storage import is_local, remove_leftovers, write_text
from .files.torch_files import write_checkpoint_file
from .input_channels import adapt_input_channels
from .load_report import LoadReport
from .model_card import MODEL_CARD_KEY
from .weights import as_tensors, drop_aliases, strip_prefix

__all__ = ["Checkpointer", "IncompatibleKeys"]

TAG_FILE = "last_checkpoint"
_LONGEST_TAG = 4096  # bytes


class IncompatibleKeys(NamedTuple):
    """Names without a match; ``incorrect_shapes`` has name, shape in the file and shape in the model."""

    missing_keys: list[str]
    unexpected_keys: list[str]
    incorrect_shapes: list[tuple[str, tuple[int, ...], tuple[int, ...]]]


class Checkpointer:
    """Saves and loads a model and other objects that have ``state_dict`` and ``load_state_dict``.

    A checkpoint is a file ``NAME.pth``: ``{"model": state dict, …}``. It is written under a temporary name and then
    renamed, so that a crash never damages earlier checkpoints; the file ``last_checkpoint`` in the same folder names the
    newest.

    Args:
        model: the model; wrappers of DDP and ``torch.compile`` are removed.
        save_dir: folder or URL, for :meth:`save` and for resuming.
        save_to_disk: whether this process writes files.
        checkpointables: other objects, saved under these names.

    Attributes:
        model_card: classes and config to store in each checkpoint (see :func:`make_model_card`), or None.
        adapt_input_channels: adapt the first convolution of a checkpoint to a model with other image channels.
        last_report: which weights the last :meth:`load` loaded, and which not.
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
            raise KeyError(f"something is already saved as {key!r}; choose another name")
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
            name: of the file, without extension.
            kwargs: additional data to store, such as ``iteration=7``.

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
            name: of the file, without extension.
            weights: a state dict; default: the model's own.
            kwargs: additional data to store, such as ``iteration=7``.
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
        """Return the path of the last checkpoint; empty if there is none, or ``last_checkpoint`` is not a file name."""
        try:
            with self.path_manager.open(os.path.join(self.save_dir, TAG_FILE), "rb") as f:
                name = f.read(_LONGEST_TAG).decode(errors="replace").strip()
        except OSError:
            return ""
        if is_plain_name(name):
            return os.path.join(self.save_dir, name)
        if name:
            self.logger.error(f"{TAG_FILE} in {self.save_dir!r} must be a file name, got {name[:60]!r}")
        return ""

    def get_all_checkpoint_files(self) -> list[str]:
        """Return the paths of all ``.pth`` files and ``.shards`` folders in the folder, sorted by name."""
        if not self.save_dir or not self.path_manager.isdir(self.save_dir):
            return []
        names = sorted(n for n in self.path_manager.ls(self.save_dir) if n.endswith((".pth", SHARDS)))
        paths = [os.path.join(self.save_dir, os.path.basename(n)) for n in names]
        return [p for p in paths if self.path_manager.isfile(p) or p.endswith(SHARDS)]

    def remove_checkpoint(self, path: str) -> None:
        """Remove a checkpoint if it exists and this process writes files."""
        if self.save_to_disk and self.path_manager.exists(path):
            if path.endswith(SHARDS):
                shutil.rmtree(path)
            else:
                self.path_manager.rm(path)

    def newest_whole_checkpoint(self, without: Collection[str] = ()) -> str:
        """Return the path of the newest complete checkpoint, by iteration; empty if there is none.

        Only files that this training has written are considered. Each skipped file is logged with the reason.

        Args:
            without: paths to ignore.
        """
        tagged = self.get_checkpoint_file()
        if tagged and not is_local(tagged):
            return "" if tagged in without else tagged  # remote stores only write complete objects
        for path in self._resume_order(tagged):
            if path in without:
                continue
            try:
                verify_checkpoint_file(path)
                is_last = path == tagged
                if not holds_training(path, needs_iteration=not is_last):
                    continue
            except (OSError, ValueError, ImportError) as e:
                self.logger.error(f"{path} is missing, truncated or damaged and is skipped: {e}")
                continue
            if not is_last:
                self.logger.warning(f"The last checkpoint cannot be resumed from; resuming from {path}")
            return path
        return ""

    def _resume_order(self, tagged: str) -> list[str]:
        """Return the paths of the checkpoints that this training has written, the last one first."""
        names = [os.path.basename(p) for p in self.get_all_checkpoint_files() if is_local(p)]
        order = resume_order(
            names, os.path.basename(tagged), lambda name: iteration_of(os.path.join(self.save_dir, name))
        )
        return [os.path.join(self.save_dir, name) for name in order]

    # ------------------------------------------------------------------------------------------------ loading
    def load(self, path: str, checkpointables: list[str] | None = None) -> dict[str, Any]:
        """Load a checkpoint into the model and the other objects.

        Args:
            path: local path or any URL that ``PathManager`` reads; empty to load nothing.
            checkpointables: names of the other objects to load; None for all in the file.

        Returns:
            The rest of the file's content, such as ``{"iteration": 7}``.

        Raises:
            FileNotFoundError: if there is no such file.
            BrokenCheckpointError, UnsafeCheckpointError: see :func:`read_checkpoint_file`.
        """
        if not path:
            self.logger.info("no checkpoint given; the model keeps its initial weights")
            return {}
        self.logger.info(f"loading checkpoint {path}")
        return self._apply(self._load_file(self._local(path)), path, checkpointables)

    def _local(self, path: str) -> str:
        local = self.path_manager.get_local_path(path)
        if not os.path.isfile(local) and not (local.endswith(SHARDS) and os.path.isdir(local)):
            folder = os.path.dirname(local) or "."
            near = [n for n in os.listdir(folder) if not n.startswith(".")] if os.path.isdir(folder) else []
            hint = did_you_mean(os.path.basename(local), near) if near else f"The folder {folder!r} is empty."
            raise NoSuchFile(f"there is no checkpoint {path!r}. {hint}")
        return local

    def _apply(
        self, checkpoint: dict[str, Any], path: str, checkpointables: list[str] | None
    ) -> dict[str, Any]:
        """Load the parts of a checkpoint into their objects; return the rest."""
        self.last_report = LoadReport(path=path)
        if "model" not in checkpoint:
            raise BrokenCheckpointError(
                f"{path!r} has no weights: its keys are {', '.join(map(str, checkpoint)) or 'none'}"
            )
        try:
            incompatible = self._load_model(checkpoint)
        except BrokenCheckpointError as e:
            raise BrokenCheckpointError(f"{path!r} cannot be loaded: {e}") from e
        checkpoint.pop("model", None)
        log_restrictions(path, self.logger)
        if incompatible is not None:  # overriding methods may return nothing
            self._log_incompatible_keys(incompatible)
        for key in self.checkpointables if checkpointables is None else checkpointables:
            if key in checkpoint:
                self.logger.info(f"loading {key} from {path}")
                self.checkpointables[key].load_state_dict(checkpoint.pop(key))
        return checkpoint

    def _load_file(self, filename: str) -> dict[str, Any]:
        """Read a local file to ``{"model": weights, …}``; override to read other formats."""
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
        report.missing = drop_aliases(missing, state, weights)
        report.unexpected = list(result.unexpected_keys)
        report.loaded = [k for k in weights if k in state]
        return IncompatibleKeys(report.missing, report.unexpected, wrong)

    def _log_incompatible_keys(self, incompatible: IncompatibleKeys) -> None:
        """Log a table of the weights that were and were not loaded."""
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

        If the last checkpoint is damaged, or does not fit the model or the other objects, the one before it is used.

        Args:
            path: weights to start from when not resuming.
            resume: whether to look for a last checkpoint.

        Returns:
            The rest of the file's content, with ``"iteration"`` after resuming.

        Raises:
            BrokenCheckpointError: if there are checkpoints to resume from but none can be used.
        """
        if resume and (rest := self.resume()) is not None:
            return rest
        self.resumed_from = None
        return self.load(path, checkpointables=[])

    def resume(self, checkpointables: list[str] | None = None) -> dict[str, Any] | None:
        """Resume from the newest usable checkpoint of the folder; return None if the folder has no checkpoint.

        Args:
            checkpointables: see :meth:`load`.

        Raises:
            BrokenCheckpointError: if there are checkpoints but none can be used.
        """
        unfit: dict[str, Exception] = {}
        while found := self._choose_resume(unfit):
            problem: Exception | None = None
            rest: dict[str, Any] = {}
            try:
                rest = self.load(found, checkpointables)
                self._check_fit(found)
            except Exception as e:  # a state may contain anything and raise any error
                if is_out_of_memory(e):
                    raise
                problem = e
            problem = self._agree(problem)
            if problem is None:
                self.resumed_from = found
                return rest
            unfit[found] = problem
            self.logger.error(f"{found} does not fit this training and is skipped: {brief(problem)}")
        return None

    def _agree(self, problem: Exception | None) -> Exception | None:
        """Return the problem that any process had with a checkpoint; None if all could load it."""
        return problem

    def _check_fit(self, path: str) -> None:
        """Raise an error if the loaded checkpoint has no weight of the model."""
        report = self.last_report
        if report is not None and report.useless:
            raise BrokenCheckpointError(f"{path!r} has no weight of this model ({report.summary()})")

    def _choose_resume(self, unfit: Mapping[str, Exception] = MappingProxyType({})) -> str:
        """Return the path to resume from, except those already tried; empty if the folder has no checkpoints."""
        started = self.has_checkpoint() or bool(self._resume_order(""))
        if not started:
            return ""
        if self.save_to_disk and is_local(self.save_dir):
            remove_leftovers(self.save_dir)
        found = self.newest_whole_checkpoint(unfit)
        if not found:
            raise BrokenCheckpointError(
                f"{self.save_dir!r} has checkpoints to resume from, but none is complete and fits the model"
                f"{''.join(f'; {os.path.basename(p)}: {brief(e)}' for p, e in unfit.items())}. Start again without "
                "resuming, or in another folder."
            ) from next(iter(unfit.values()), None)
        return found
