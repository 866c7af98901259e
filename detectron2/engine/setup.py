"""Prepare a process for a training or an evaluation."""

from __future__ import annotations

import argparse
import inspect
import logging
import os
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from detectron2.config.types import Config
from detectron2.utils import comm
from detectron2.utils.collect_env import collect_env_info
from detectron2.utils.env import seed_all_rng, setup_environment
from detectron2.utils.file_io import PathManager
from detectron2.utils.logger import setup_logger

from .run_config import run_config

__all__ = ["create_ddp_model", "default_setup", "set_backends", "use_deterministic_algorithms"]


def create_ddp_model(model: nn.Module, *, fp16_compression: bool = False, **kwargs: Any) -> nn.Module:
    """Wrap a model in ``DistributedDataParallel``; return the model itself if there is only one process.

    Args:
        model: the model, on the device of this process.
        fp16_compression: send gradients as float16.
        **kwargs: arguments of ``DistributedDataParallel``. If some batches do not use all parameters, pass
            ``find_unused_parameters=True``.
    """
    if comm.get_world_size() == 1:
        return model
    if "device_ids" not in kwargs:
        device = next((p.device for p in model.parameters()), torch.device("cpu"))
        kwargs["device_ids"] = [device] if device.type == "cuda" else None
    # Newer releases of torch renamed this option.
    if "forward_sync_buffers" in inspect.signature(DistributedDataParallel).parameters:
        if "broadcast_buffers" in kwargs:
            kwargs["forward_sync_buffers"] = kwargs.pop("broadcast_buffers")
    wrapped = DistributedDataParallel(model, **kwargs)
    if fp16_compression:
        from torch.distributed.algorithms.ddp_comm_hooks import default_hooks

        wrapped.register_comm_hook(state=None, hook=default_hooks.fp16_compress_hook)
    return wrapped


def use_deterministic_algorithms() -> None:
    """Make results reproducible bit by bit on one device, at some cost in speed.

    Operators without a deterministic implementation raise an error.
    """
    # Must be set before cuBLAS starts.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.benchmark = False


def default_setup(cfg: Config, args: argparse.Namespace) -> None:
    """Set up logs, seeds and backends, and write ``config.yaml`` and ``log.txt`` into the output folder.

    Args:
        cfg: either kind of config.
        args: result of ``default_argument_parser``; ``config_file`` and ``eval_only`` may be missing.
    """
    run = run_config(cfg)
    output_dir = run.options.output_dir
    rank = comm.get_rank()
    if comm.is_main_process() and output_dir:
        PathManager.mkdirs(output_dir)
    logger = setup_logger(output_dir, distributed_rank=rank)
    setup_environment()

    logger.info("Rank of current process: %d. World size: %d", rank, comm.get_world_size())
    logger.info("Environment info:\n%s", collect_env_info())
    logger.info("Command line arguments: %s", args)
    config_file = getattr(args, "config_file", "")
    if config_file:
        with PathManager.open(config_file, "r", errors="replace") as file:
            logger.info("Contents of args.config_file=%s:\n%s", config_file, file.read())

    if comm.is_main_process() and output_dir:
        path = os.path.join(output_dir, "config.yaml")
        run.save(path)
        logger.info("Full config saved to %s", path)
    set_backends(cfg, training=not getattr(args, "eval_only", False))


def set_backends(cfg: Config, training: bool = True) -> None:
    """Apply the seed, determinism, cuDNN benchmark and float32 precision of a config.

    Args:
        cfg: either kind of config.
        training: whether to let cuDNN search for the fastest kernels if the config asks for it.
    """
    logger = logging.getLogger("detectron2")
    options = run_config(cfg).options
    seed = options.seed
    if options.deterministic:
        use_deterministic_algorithms()
        if seed < 0:
            seed = 0
            logger.info("Deterministic mode without a seed: using seed 0.")
    # Each process draws different random numbers; those that must agree are communicated explicitly.
    seed_all_rng(None if seed < 0 else seed + comm.get_rank())
    # Test images differ in size, so the search would run again for each.
    if training and not options.deterministic:
        torch.backends.cudnn.benchmark = options.cudnn_benchmark
    if options.float32_precision:
        torch.set_float32_matmul_precision(options.float32_precision)
        logger.info("float32 matrix products use precision %r.", options.float32_precision)
