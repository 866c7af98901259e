"""Checkpointer of models that are sharded over processes."""

import os
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from torch import nn

from detectron2.utils import comm

from .detection_checkpoint import DetectionCheckpointer
from .files.read import read_checkpoint_file
from .files.shards import SHARDS, is_sharded, read_shards, whole, write_shards

__all__ = ["ShardedCheckpointer"]


class ShardedCheckpointer(DetectionCheckpointer):
    """A :class:`DetectionCheckpointer` that writes folders, to which each process adds its own part.

    Every process must call :meth:`save`, :meth:`export` and :meth:`load`, and must see the folder. Any number of
    processes can read the result, as can an ordinary checkpointer in a single process. With the final checkpoint
    (``NAME_final``), the whole weights are also written as an ordinary ``NAME_final.pth``.

    Args:
        model: the sharded model.
        save_dir: folder on a file system that all processes share.
        checkpointables: other objects to save and load.
    """

    def __init__(self, model: nn.Module, save_dir: str = "", **checkpointables: Any) -> None:
        super().__init__(model, save_dir, **checkpointables)

    def save(self, name: str, **kwargs: object) -> None:
        """Write ``{save_dir}/{name}.shards`` and make it the last checkpoint, see :meth:`Checkpointer.save`."""
        if not self.save_dir:
            return
        path = os.path.join(self.save_dir, name + SHARDS)
        self.logger.info(f"saving checkpoint {path}")
        write_shards(self._contents(kwargs), path)
        if comm.is_main_process():
            self.tag_last_checkpoint(name + SHARDS)
        if name.endswith("_final"):
            self.export(name, None, **kwargs)
        comm.synchronize()

    def export(self, name: str, weights: Mapping[str, Any] | None = None, **kwargs: object) -> None:
        """Write the whole weights as an ordinary file, see :meth:`Checkpointer.export`."""
        weights = self.model.state_dict() if weights is None else weights
        gathered = {}
        for key, value in weights.items():
            one = whole(value)  # one at a time, since only the main process keeps them
            if comm.is_main_process():
                gathered[key] = one
        if comm.is_main_process():
            super().export(name, gathered, **kwargs)

    def _load_file(self, filename: str) -> dict[str, Any]:
        if not filename.rstrip("/").endswith(SHARDS):
            return super()._load_file(filename)
        mesh = next((v.device_mesh for v in self.model.state_dict().values() if is_sharded(v)), None)
        return read_checkpoint_file(filename) if mesh is None else read_shards(filename, mesh)

    def _choose_resume(self, unfit: Mapping[str, Exception] = MappingProxyType({})) -> str:
        found = super()._choose_resume(unfit)
        if found and not found.endswith(SHARDS):
            raise ValueError(
                f"{found!r} was written by a training without sharding, so its optimizer cannot be resumed here. Resume "
                "with SOLVER.FSDP.ENABLED False, or start from its weights with MODEL.WEIGHTS and another OUTPUT_DIR."
            )
        return found
