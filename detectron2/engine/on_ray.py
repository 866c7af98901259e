"""Training on Ray: Ray Train starts the processes, keeps their checkpoints, and replaces workers that are lost."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import torch

from detectron2.utils import comm
from detectron2.utils.errors import InputError, UserError
from detectron2.utils.file_io.atomic import atomic_write

from .hooks.periodic import PeriodicHook
from .safety.meeting import explains_missing_ranks

if TYPE_CHECKING:
    from ray.train import Checkpoint, Result

__all__ = ["RayReport", "import_ray", "restore_checkpoint", "train_on_ray"]

logger = logging.getLogger(__name__)

_LAST = "last_checkpoint"  # names the newest checkpoint of a folder
_FINAL = ("model_final.pth", "model_best.pth", "model_ema.pth")
_CURVES = "metrics.json"


def import_ray(connect: bool = True) -> ModuleType:
    """Return the module ``ray``.

    Args:
        connect: connect to a cluster: that of ``RAY_ADDRESS``, or else one on this machine, which is started if need be.

    Raises:
        ImportError: Ray is not installed.
    """
    try:
        import ray
        import ray.data
        import ray.train
    except ImportError as error:
        raise ImportError("--engine ray needs Ray: pip install 'detectron2[ray]'") from error
    if connect and not ray.is_initialized():
        ray.init(include_dashboard=False, logging_level=logging.WARNING)
    return ray


class RayReport(PeriodicHook):
    """Reports the newest metrics and checkpoint to Ray Train, which copies the checkpoint to its storage.

    Register it on all processes, after all other hooks, with the period of the checkpoints.

    Args:
        period: iterations between two checkpoints; 0 reports only at the end.
        folder: output folder of the training.
    """

    def __init__(self, period: int, folder: str) -> None:
        super().__init__(period)
        self._folder = Path(folder)

    def run(self) -> None:
        import ray.train

        if not comm.is_main_process():
            ray.train.report({})
            return
        latest = self.trainer.storage.latest()
        metrics: dict[str, Any] = {name: float(value) for name, (value, _) in latest.items()}
        metrics["iteration"] = self.trainer.iter
        with tempfile.TemporaryDirectory(dir=self._folder, prefix=".ray-") as place:
            for name in self._files():
                _link(self._folder / name, Path(place) / name)
            ray.train.report(metrics, checkpoint=ray.train.Checkpoint.from_directory(place))

    def _files(self) -> list[str]:
        """Return the names of the newest checkpoint and what belongs to it; at the end also the weights to use."""
        names = [_CURVES, *(_FINAL if self.trainer.complete else ())]
        last = self._folder / _LAST
        if last.is_file():
            names += [_LAST, last.read_text().strip()]
        return [name for name in dict.fromkeys(names) if (self._folder / name).exists()]


def _link(source: Path, target: Path) -> None:
    """Let a name stand for a file or folder, without a copy where the disk allows it."""
    if source.is_dir():
        shutil.copytree(source, target, copy_function=_link_file)
    else:
        _link_file(source, target)


def _link_file(source: str | Path, target: str | Path) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def restore_checkpoint(folder: str | Path, checkpoint: Checkpoint | None = None) -> bool:
    """Copy a checkpoint from Ray's storage into an output folder, unless its files are there.

    Args:
        folder: output folder of the training.
        checkpoint: of Ray; None takes the newest one that this training reported.

    Returns:
        Whether there is one.
    """
    import ray.train

    folder = Path(folder)
    checkpoint = ray.train.get_checkpoint() if checkpoint is None else checkpoint
    if checkpoint is None:
        return False
    folder.mkdir(parents=True, exist_ok=True)
    with checkpoint.as_directory() as place:
        for found in sorted(Path(place).iterdir()):
            if found.name == _LAST:
                # All machines go on from this checkpoint, even if one of them has written a newer one.
                with atomic_write(folder / _LAST) as file:
                    file.write(found.read_text())
            elif not (folder / found.name).exists():
                part = folder / f".{found.name}.part"
                shutil.copytree(found, part) if found.is_dir() else shutil.copy2(found, part)
                part.replace(folder / found.name)
    logger.info("Restored %s from Ray's storage.", folder)
    return True


def train_on_ray(
    main: Callable[..., object],
    num_workers: int,
    *,
    args: tuple[object, ...] = (),
    storage: str,
    name: str,
    use_gpu: bool = False,
    max_failures: int = 3,
) -> Result:
    """Call a function in one process per worker of Ray Train, as :func:`~detectron2.engine.launch` does without Ray.

    If a worker is lost, all are started again, and the function finds the last reported checkpoint by
    :func:`restore_checkpoint`. The same storage and name go on with an earlier training.

    Args:
        main: called on each worker; must be importable there, or is sent along.
        num_workers: processes, one per GPU with ``use_gpu``.
        args: arguments of ``main``.
        storage: folder or URI that all machines reach, such as ``s3://bucket/runs``.
        name: of the training within the storage.
        use_gpu: give each worker a GPU.
        max_failures: times that the workers are started again.

    Returns:
        Ray's result, with ``metrics`` and ``checkpoint``.

    Raises:
        UserError: ``main`` refused its input on all workers, which no other start would change.
    """
    import_ray()
    from ray.train import CheckpointConfig, FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    trainer = TorchTrainer(
        _on_worker,
        train_loop_config={"main": main, "args": args},
        scaling_config=ScalingConfig(num_workers=num_workers, use_gpu=use_gpu),
        run_config=RunConfig(
            name=name,
            storage_path=storage if "://" in storage else os.path.abspath(storage),
            failure_config=FailureConfig(max_failures=max_failures),
            checkpoint_config=CheckpointConfig(num_to_keep=2),
        ),
    )
    result = trainer.fit()
    refused = getattr(result, "return_value", None)
    if isinstance(refused, _Refused):
        raise UserError(refused.text)
    return result


@dataclass(frozen=True)
class _Refused:
    """Stands for an error after which Ray shall not start the workers again."""

    text: str


def _on_worker(config: dict[str, Any]) -> _Refused | None:
    """Run in a process that Ray Train started and has joined to the others."""
    import ray.train.torch

    device = ray.train.torch.get_device()
    if isinstance(device, torch.device) and device.type == "cuda":
        torch.cuda.set_device(device)
    with explains_missing_ranks():
        per_machine = ray.train.get_context().get_local_world_size()
        if comm.get_world_size() > 1 and len(set(comm.all_gather(per_machine))) == 1:
            comm.create_local_process_group(per_machine)
        try:
            config["main"](*config["args"])
        except (InputError, ValueError) as error:
            # Those of a machine, such as DeviceError, are worth another try. Older Ray brings no value back.
            if isinstance(error, RuntimeError) or not hasattr(ray.train.Result, "return_value"):
                raise
            logger.error("Where it comes from:", exc_info=error, extra={"to_console": False})
            return _Refused(str(error))
    return None
