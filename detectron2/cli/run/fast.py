"""The preset for fast training: what pays on an accelerator, or on a CPU."""

from collections.abc import Sequence

import torch

from detectron2.engine.run_config import RunConfig

__all__ = ["fit_fast"]


def fit_fast(config: RunConfig, changes: Sequence[str] = ()) -> list[str]:
    """Switch on what makes training fast on the device of the config.

    Args:
        config: before the user's own changes.
        changes: these, ``KEY VALUE`` in turn; they decide on the device, sizes, and whether the model has a fast form.

    Returns:
        A line for the user, which says what was switched on.
    """
    yacs = config.kind == "yacs"
    config.set("SOLVER.FUSED" if yacs else "optimizer.fused", True)
    config.put(channels_last=True, broadcast_buffers=False)
    done = ["fused optimizer", "channels-last memory", "no broadcast of buffers"]
    wanted = config.copied()
    wanted.override(changes)
    device = torch.device(wanted.options.device).type
    if device == "cpu":
        return [
            f"--fast: {', '.join(done)}; half precision, fixed shapes and compiling pay only on accelerators."
        ]
    config.put(amp=True, amp_dtype="bfloat16")
    done.append("bfloat16")
    missing = _fix_shapes(config, wanted, yacs)
    done += [] if missing else ["fixed shapes (MODEL.FIXED_SHAPES)"]
    if device == "cuda":
        parts = ["backbone"] if missing else [""]
        config.put(compile=True, compile_parts=parts, cudnn_benchmark=True, float32_precision="high")
        done += [
            "TF32",
            "search for the fastest kernels",
            f"compiled {'backbone' if missing else 'training steps'}",
        ]
    return [f"--fast: {', '.join(done)}." + (f" No fixed shapes: {missing}." if missing else "")]


def _fix_shapes(config: RunConfig, wanted: RunConfig, yacs: bool) -> str:
    """Set the fast form of the model and sizes for its batches; if it has none, return why."""
    path = "MODEL.FIXED_SHAPES" if yacs else "model.fixed_shapes"
    trial = wanted.copied()
    trial.put(device="cpu")
    trial.set(path, True)
    try:
        trial.model()
    except (TypeError, ValueError) as error:
        return str(error).rstrip(".")
    config.set(path, True)
    if config.get("dataloader.train.mapper.use_instance_mask"):
        config.set("dataloader.train.mapper.instance_mask_format", "bitmask")
    if yacs:
        config.set("INPUT.MASK_FORMAT", "bitmask")
        short, long = max(wanted.get("INPUT.MIN_SIZE_TRAIN")), wanted.get("INPUT.MAX_SIZE_TRAIN")
        short, long = (-(-side // 32) * 32 for side in (short, max(short, long)))
        config.set("INPUT.FIXED_SIZE", [[short, long], [long, short]])
    return ""
