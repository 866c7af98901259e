"""``detectron2 replay``: a step whose loss was not finite, once more, module by module."""

import argparse
from pathlib import Path

from detectron2.engine.run_config import load_run_config
from detectron2.engine.safety.incident import load_incident
from detectron2.engine.safety.replay import replay_step
from detectron2.engine.trainer.precision import parse_dtype

from ..errors import UserError

__all__ = ["run"]


def run(args: argparse.Namespace) -> int:
    """Replay and print; 1 if the step is bad again, 0 if it is not."""
    path = Path(args.batch)
    if path.is_dir():
        path = _newest(path)
    if not path.is_file():
        raise UserError(f"there is no file {path}; a training keeps such batches in its folder bad_batches")
    config = Path(args.config_file) if args.config_file else path.parent.parent / "config.yaml"
    if not config.is_file():
        raise UserError(f"there is no config {config}; give the one of the training with --config-file")
    incident = load_incident(str(path))
    run_of_batch = load_run_config(config, args.opts)
    run_of_batch.put(device=args.device)
    options = run_of_batch.options
    dtype = parse_dtype(args.dtype or (options.amp_dtype if options.amp else "float32"))
    try:
        result = replay_step(run_of_batch.model(), incident, dtype)
    except RuntimeError as error:
        if "state_dict" not in str(error):
            raise
        raise UserError(f"the model of {config} does not take the weights of {path}: {error}") from error
    print(f"{path} on {args.device} in {str(dtype).removeprefix('torch.')}")
    print(result.to_text())
    return int(result.reproduced)


def _newest(folder: Path) -> Path:
    """Return the last batch that a run kept."""
    inner = folder / "bad_batches"
    found = sorted((inner if inner.is_dir() else folder).glob("iteration_*.pth"))
    if not found:
        raise UserError(f"{folder} keeps no bad batch: no step of that run was stopped")
    return found[-1]
