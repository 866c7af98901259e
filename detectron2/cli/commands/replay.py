"""``detectron2 replay``: run a step whose loss was not finite again, and check every module."""

import argparse
from pathlib import Path

from detectron2.engine.run_config import load_run_config
from detectron2.engine.safety.incident import load_incident
from detectron2.engine.safety.replay import replay_step
from detectron2.engine.trainer.precision import parse_dtype

from ..errors import UserError

__all__ = ["run"]


def run(args: argparse.Namespace) -> int:
    """Replay the step and print the result; return 1 if it fails again, else 0."""
    path = Path(args.batch)
    if path.is_dir():
        path = _newest(path)
    if not path.is_file():
        raise UserError(f"there is no file {path}; training saves such batches in its folder bad_batches")
    config = Path(args.config_file) if args.config_file else path.parent.parent / "config.yaml"
    if not config.is_file():
        raise UserError(f"there is no config {config}; name the config of the training with --config-file")
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
        raise UserError(f"the model of {config} does not match the weights of {path}: {error}") from error
    print(f"{path} on {args.device} in {str(dtype).removeprefix('torch.')}")
    print(result.to_text())
    return int(result.reproduced)


def _newest(folder: Path) -> Path:
    """Return the last batch that a run saved."""
    inner = folder / "bad_batches"
    found = sorted((inner if inner.is_dir() else folder).glob("iteration_*.pth"))
    if not found:
        raise UserError(f"{folder} has no bad batch: no step of that run had a loss that was not finite")
    return found[-1]
