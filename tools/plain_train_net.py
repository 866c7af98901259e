#!/usr/bin/env python
"""Train as ``train_net.py`` does, with a plain loop instead of a trainer class.

Shows that every part of the package works by itself: read it from top to bottom, copy it, and change it. It does less
than the trainer: no mixed precision, no accumulation, no exact resume of data and random states.
"""

from __future__ import annotations

import argparse
import logging
import os
from collections import OrderedDict
from typing import Any

import torch

from detectron2.checkpoint import DetectionCheckpointer, PeriodicCheckpointer
from detectron2.config import CfgNode, get_cfg
from detectron2.data import build_detection_test_loader, build_detection_train_loader
from detectron2.engine import (
    create_ddp_model,
    default_argument_parser,
    default_setup,
    default_writers,
    launch,
)
from detectron2.evaluation import inference_on_dataset, print_csv_format
from detectron2.evaluation.build import build_evaluator
from detectron2.modeling import build_model
from detectron2.solver import build_lr_scheduler, build_optimizer
from detectron2.utils import comm
from detectron2.utils.events import EventStorage

logger = logging.getLogger("detectron2.plain_train_net")


def do_test(cfg: CfgNode, model: torch.nn.Module) -> Any:
    """Evaluate on every test data set."""
    results = OrderedDict()
    for name in cfg.DATASETS.TEST:
        loader = build_detection_test_loader(cfg, name)
        evaluator = build_evaluator(cfg, name, os.path.join(cfg.OUTPUT_DIR, "inference", name))
        results[name] = inference_on_dataset(model, loader, evaluator)
        if comm.is_main_process():
            logger.info("Evaluation results for %s in csv format:", name)
            print_csv_format(results[name])
    return next(iter(results.values())) if len(results) == 1 else results


def do_train(cfg: CfgNode, model: torch.nn.Module, resume: bool = False) -> None:
    """Train to the end."""
    model.train()
    optimizer = build_optimizer(cfg, model)
    scheduler = build_lr_scheduler(cfg, optimizer)
    checkpointer = DetectionCheckpointer(model, cfg.OUTPUT_DIR, optimizer=optimizer, scheduler=scheduler)
    loaded = checkpointer.resume_or_load(cfg.MODEL.WEIGHTS, resume=resume)
    start_iter = loaded.get("iteration", -1) + 1
    max_iter = cfg.SOLVER.MAX_ITER
    saver = PeriodicCheckpointer(checkpointer, cfg.SOLVER.CHECKPOINT_PERIOD, max_iter=max_iter)
    writers = default_writers(cfg.OUTPUT_DIR, max_iter) if comm.is_main_process() else []

    loader = build_detection_train_loader(cfg)
    logger.info("Starting training from iteration %d", start_iter)
    with EventStorage(start_iter) as storage:
        # The range comes first, so that the loader is not asked for one batch too many.
        for iteration, batch in zip(range(start_iter, max_iter), loader):
            storage.iter = iteration

            losses = model(batch)  # a dict of scalars
            total = sum(losses.values())
            if not torch.isfinite(total):
                raise FloatingPointError(f"iteration {iteration}: {losses}")
            optimizer.zero_grad()
            total.backward()
            optimizer.step()

            reduced = {name: value.item() for name, value in comm.reduce_dict(losses).items()}
            if comm.is_main_process():
                storage.put_scalars(total_loss=sum(reduced.values()), **reduced)
            storage.put_scalar("lr", optimizer.param_groups[0]["lr"], smoothing_hint=False)
            scheduler.step()

            done = iteration + 1
            if cfg.TEST.EVAL_PERIOD > 0 and done % cfg.TEST.EVAL_PERIOD == 0 and done != max_iter:
                do_test(cfg, model)
                comm.synchronize()
            if done == max_iter or (done % 20 == 0 and done - start_iter > 5):
                for writer in writers:
                    writer.write()
            saver.step(iteration)
    for writer in writers:
        writer.close()


def setup(args: argparse.Namespace) -> CfgNode:
    """Return the config that the arguments describe, and set up this process."""
    cfg = get_cfg()
    cfg.merge_from_file(args.config_file)
    cfg.merge_from_list(args.opts)
    cfg.freeze()
    default_setup(cfg, args)
    return cfg


def main(args: argparse.Namespace) -> Any:
    """Run in each process."""
    cfg = setup(args)
    model = build_model(cfg)
    logger.info("Model:\n%s", model)
    if args.eval_only:
        DetectionCheckpointer(model, save_dir=cfg.OUTPUT_DIR).resume_or_load(
            cfg.MODEL.WEIGHTS, resume=args.resume
        )
        return do_test(cfg, model)
    if comm.get_world_size() > 1:
        model = create_ddp_model(model, broadcast_buffers=False)
    do_train(cfg, model, resume=args.resume)
    return do_test(cfg, model)


if __name__ == "__main__":
    args = default_argument_parser().parse_args()
    print("Command line arguments:", args)
    launch(
        main,
        args.num_gpus,
        num_machines=args.num_machines,
        machine_rank=args.machine_rank,
        dist_url=args.dist_url,
        args=(args,),
    )
