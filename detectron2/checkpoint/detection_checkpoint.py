"""The checkpointer of detectors, which also reads files of the model zoo, Caffe2 and pycls."""

import os
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import torch
import torch.distributed as dist
from torch import nn

from detectron2.utils import comm
from detectron2.utils.errors import BadValue

from .c2_model_loading import align_and_update_state_dicts
from .checkpointer import Checkpointer, IncompatibleKeys
from .errors import BrokenCheckpointError
from .files.read import read_checkpoint_file
from .importers import convert_foreign_weights
from .weights import as_tensors, named_weights

__all__ = ["DetectionCheckpointer", "align_and_update_state_dicts"]

# Constants that a model computes itself; a checkpoint may have them or not.
_CONSTANT_BUFFERS = ("pixel_mean", "pixel_std")
_CONSTANT_ENDINGS = ("anchor_generator.cell_anchors",)


class DetectionCheckpointer(Checkpointer):
    """A :class:`Checkpointer` that also reads:

    * ``.pkl`` files of the model zoo (``{"model": arrays, "__author__": …}``) and of Caffe2 / Detectron;
    * ``.pyth`` files of pycls and ``.safetensors`` files;
    * a bare state dict, also of torchvision's and MMDetection's detectors (see :func:`convert_torchvision_weights`);
    * ``PATH?matching_heuristics=True``: matches names by their ends, see :func:`align_and_update_state_dicts`.

    With several processes, the main one sends the content of the file to those that cannot see it.

    Args:
        model: the model.
        save_dir: folder for :meth:`save`.
        save_to_disk: whether this process writes files; default: only the main process.
        checkpointables: other objects to save and load.
    """

    def __init__(
        self,
        model: nn.Module,
        save_dir: str = "",
        *,
        save_to_disk: bool | None = None,
        **checkpointables: object,
    ) -> None:
        writes = comm.is_main_process() if save_to_disk is None else save_to_disk
        super().__init__(model, save_dir, save_to_disk=writes, **checkpointables)

    def load(self, path: str, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Load a checkpoint, see :meth:`Checkpointer.load`.

        Args:
            path: a path or URL; may end in ``?matching_heuristics=True``.
            args, kwargs: other arguments of :meth:`Checkpointer.load`.

        Raises:
            ValueError: if the path has another query.
        """
        if not path:
            return super().load(path, *args, **kwargs)
        plain, heuristics = _split_query(os.fspath(path))
        self.logger.info(f"loading checkpoint {path}")
        checkpoint = self._read_everywhere(plain)
        if heuristics:
            checkpoint["matching_heuristics"] = True
        names = args[0] if args else kwargs.get("checkpointables")
        return self._apply(checkpoint, path, names)

    def _read_everywhere(self, path: str) -> dict[str, Any]:
        """Read the file on every process, or send it to all if some cannot see it."""
        if comm.get_world_size() == 1:
            return self._load_file(self._local(path))
        error: Exception | None = None
        local = ""
        try:
            local = self._local(path)
        except OSError as e:
            error = e
        seen = comm.all_gather(error is None)
        if not seen[0]:
            raise error or FileNotFoundError(
                f"the main process cannot see {path!r}, though other processes can"
            )
        if all(seen):
            return self._load_file(local)
        blind = [rank for rank, ok in enumerate(seen) if not ok]
        self.logger.warning(f"ranks {blind} cannot see {path}; the main process sends them its content")
        box: list[Any] = [self._load_file(local) if comm.get_rank() == 0 else None]
        dist.broadcast_object_list(box, src=0)
        return box[0]

    def _choose_resume(self, unfit: Mapping[str, Exception] = MappingProxyType({})) -> str:
        """Let the main process decide, so that all processes resume from the same file."""
        if comm.get_world_size() == 1:
            return super()._choose_resume(unfit)
        answer: tuple[str, str] = ("", "")
        if comm.is_main_process():
            try:
                answer = (super()._choose_resume(unfit), "")
            except ValueError as e:
                answer = ("", str(e))
        found, problem = comm.all_gather(answer)[0]
        if problem:
            raise BrokenCheckpointError(problem)
        return found

    def _agree(self, problem: Exception | None) -> Exception | None:
        if comm.get_world_size() == 1:
            return problem
        texts = comm.all_gather(None if problem is None else str(problem))
        return problem or next((RuntimeError(f"another process: {t}") for t in texts if t is not None), None)

    def _load_file(self, filename: str) -> dict[str, Any]:
        data = read_checkpoint_file(filename) if filename.endswith(".pkl") else self._torch_load(filename)
        if not isinstance(data, Mapping):
            raise ValueError(f"{filename!r} must be a dict of weights, got {type(data).__name__}")
        if filename.endswith(".pkl"):
            return _from_pickle(data, filename)
        if filename.endswith(".pyth"):
            if "model_state" not in data:
                raise BadValue(
                    f"{filename!r} is not a pycls checkpoint: it has no 'model_state' among {list(data)[:8]}"
                )
            state = named_weights(data["model_state"], filename)
            weights = {k: v for k, v in state.items() if not k.endswith("num_batches_tracked")}
            return {"model": weights, "__author__": "pycls", "matching_heuristics": True}
        if "model" not in data:
            # Other trainers store the weights as "state_dict"; otherwise the file itself is a state dict.
            weights, origin = convert_foreign_weights(named_weights(data.get("state_dict", data), filename))
            if origin:
                self.logger.info(f"{filename} has the names of {origin}; they were converted")
            return {"model": weights}
        return dict(data)

    def _torch_load(self, f: str) -> dict[str, Any]:
        """Read a file that is not a pickle of arrays; subclasses may override this."""
        return super()._load_file(f)

    def _load_model(self, checkpoint: dict[str, Any]) -> IncompatibleKeys | None:
        if checkpoint.get("matching_heuristics", False):
            checkpoint["model"] = align_and_update_state_dicts(
                self.model.state_dict(),
                as_tensors(checkpoint["model"]),
                c2_conversion=checkpoint.get("__author__") == "Caffe2",
            )
        incompatible = super()._load_model(checkpoint)
        if incompatible is None:
            return None
        constant = {name for name, _ in self.model.named_buffers()}.intersection(_CONSTANT_BUFFERS)
        missing = [k for k in incompatible.missing_keys if k not in constant]
        unexpected = [k for k in incompatible.unexpected_keys if not _is_constant(k)]
        return IncompatibleKeys(missing, unexpected, incompatible.incorrect_shapes)


def _is_constant(name: str) -> bool:
    return name in _CONSTANT_BUFFERS or any(e in name for e in _CONSTANT_ENDINGS)


def _split_query(path: str) -> tuple[str, bool]:
    """Split ``"x.pth?matching_heuristics=True"`` into ``("x.pth", True)``."""
    if "?" not in path or os.path.exists(path):
        return path, False
    plain, _, query = path.rpartition("?")
    pairs = dict(parse_qsl(query, keep_blank_values=True))
    flag = pairs.pop("matching_heuristics", None)
    if flag is None and urlsplit(path).scheme in ("http", "https"):
        return path, False  # a query of the server's own
    if pairs or flag not in ("True", "False"):
        raise ValueError(
            f"the only query allowed in a checkpoint path is '?matching_heuristics=True' (or False), got {query!r}"
        )
    return plain, flag == "True"


def _from_pickle(data: Mapping[str, Any], filename: str) -> dict[str, Any]:
    """Return a file of the zoo unchanged, and mark blobs of Caffe2 for conversion."""
    if "model" in data and "__author__" in data:
        return dict(data)
    blobs = named_weights(data.get("blobs", data), filename)
    weights = {k: v for k, v in blobs.items() if not k.endswith("_momentum") and _is_weight(v)}
    return {"model": weights, "__author__": "Caffe2", "matching_heuristics": True}


def _is_weight(value: object) -> bool:
    return hasattr(value, "__array__") or isinstance(value, torch.Tensor)
