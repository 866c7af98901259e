#!/usr/bin/env python
"""Times parts of a training: the data, the training step, or inference.

benchmark.py --task data|data_advanced|train|eval --config-file FILE [KEY VALUE ...]
"""

from __future__ import annotations

import argparse
import itertools
import logging
import time
from collections.abc import Iterator
from typing import Any

import torch

from detectron2.config import CfgNode
from detectron2.config.types import Config
from detectron2.data import DatasetFromList
from detectron2.engine import (
    AMPTrainer,
    DefaultTrainer,
    SimpleTrainer,
    create_ddp_model,
    default_argument_parser,
    hooks,
    launch,
)
from detectron2.engine.run_config import load_run_config, run_config
from detectron2.utils import comm
from detectron2.utils.collect_env import collect_env_info
from detectron2.utils.events import CommonMetricPrinter
from detectron2.utils.logger import setup_logger
from detectron2.utils.tables import format_table

logger = logging.getLogger("detectron2")


def setup(args: argparse.Namespace) -> Config:
    """The config; prints the environment."""
    run = load_run_config(args.config_file)
    run.set(run.rate_path, 0.001)  # random weights must not diverge
    run.override(args.opts)
    setup_logger(distributed_rank=comm.get_rank())
    logger.info("Environment:\n%s", collect_env_info())
    return run.cfg


def benchmark_data(args: argparse.Namespace) -> None:
    """Images a second of the training loader."""
    cfg = setup(args)
    stream = iter(DefaultTrainer.build_train_loader(cfg))
    first = time.perf_counter()
    next(stream)
    logger.info("First batch after %.2f s.", time.perf_counter() - first)
    for _ in range(10):
        next(stream)
    images, start = 0, time.perf_counter()
    for _ in range(args.iters):
        images += len(next(stream))
    seconds = time.perf_counter() - start
    logger.info("%.2f images/s, %.4f s a batch on this process.", images / seconds, seconds / args.iters)


def benchmark_data_advanced(args: argparse.Namespace) -> None:
    """Where the loader's time goes: records, mapper, batches with and without workers."""
    from detectron2.data.benchmark import DataLoaderBenchmark

    cfg = setup(args)
    if isinstance(cfg, CfgNode):
        from detectron2.data.build import _train_loader_from_config

        wanted = ("dataset", "mapper", "sampler", "total_batch_size", "num_workers")
        kwargs = _train_loader_from_config(cfg)
        kwargs = {name: kwargs[name] for name in wanted}
        benchmark = DataLoaderBenchmark(**kwargs)
    else:
        from detectron2.config.instantiate import instantiate

        node = dict(cfg.dataloader.train)
        node["_target_"] = "detectron2.data.benchmark.DataLoaderBenchmark"
        benchmark = instantiate(node)
    if args.num_gpus == 1:
        benchmark.benchmark_dataset(100)
        benchmark.benchmark_mapper(100)
        benchmark.benchmark_workers(100, warmup=10)
        benchmark.benchmark_IPC(100, warmup=10)
    else:
        benchmark.benchmark_distributed(100)


def benchmark_train(args: argparse.Namespace) -> None:
    """Seconds a training step, on batches that are in memory already."""
    cfg = setup(args)
    settings = run_config(cfg).options
    model = create_ddp_model(DefaultTrainer.build_model(cfg))
    optimizer = DefaultTrainer.build_optimizer(cfg, model)
    ready = list(itertools.islice(DefaultTrainer.build_train_loader(cfg), 100))

    def endless() -> Iterator[Any]:
        while True:
            yield from DatasetFromList(ready, copy=False)

    loop = AMPTrainer if settings.amp else SimpleTrainer
    trainer = loop(model, endless(), optimizer)
    trainer.register_hooks(
        [
            hooks.IterationTimer(),
            hooks.PeriodicWriter([CommonMetricPrinter(args.iters)]),
            hooks.TorchProfiler(lambda t: t.iter == args.iters - 1, "./output", save_tensorboard=False)
            if args.profile
            else None,
        ]
    )
    trainer.train(1, args.iters)


@torch.no_grad()
def benchmark_eval(args: argparse.Namespace) -> None:
    """Seconds an image in inference, on images that are in memory already."""
    cfg = setup(args)
    settings = run_config(cfg).options
    model = DefaultTrainer.build_model(cfg).eval()
    ready = list(itertools.islice(DefaultTrainer.build_test_loader(cfg, run_config(cfg).test_names[0]), 100))
    on_gpu = settings.device.startswith("cuda")
    for i in range(5):
        model(ready[i % len(ready)])
    times = []
    for i in range(args.iters):
        if on_gpu:
            torch.cuda.synchronize()
        start = time.perf_counter()
        model(ready[i % len(ready)])
        if on_gpu:
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    times.sort()
    rows = [("mean", sum(times) / len(times)), ("median", times[len(times) // 2]), ("fastest", times[0])]
    logger.info("Seconds a batch of %d:\n%s", len(ready[0]), format_table(rows, ["", "s"], floatfmt=".4f"))


TASKS = {
    "data": benchmark_data,
    "data_advanced": benchmark_data_advanced,
    "train": benchmark_train,
    "eval": benchmark_eval,
}

if __name__ == "__main__":
    parser = default_argument_parser()
    parser.add_argument("--task", choices=list(TASKS), required=True)
    parser.add_argument("--iters", type=int, default=200, help="iterations to time")
    parser.add_argument("--profile", action="store_true", help="write a trace of the last training step")
    args = parser.parse_args()
    if args.eval_only:
        parser.error("--eval-only has no meaning here; use --task eval")
    launch(
        TASKS[args.task],
        args.num_gpus if args.task != "eval" else 1,
        num_machines=args.num_machines,
        machine_rank=args.machine_rank,
        dist_url=args.dist_url,
        args=(args,),
    )
