#!/usr/bin/env python
"""Train or evaluate what a Python config describes, with overrides on the command line.

    tools/lazyconfig_train_net.py --config-file configs/new_baselines/mask_rcnn_R_50_FPN_100ep_LSJ.py \
        --num-gpus 8 optimizer.lr=0.05 dataloader.train.total_batch_size=32 train.output_dir=runs/first

The config needs ``model``, ``optimizer``, ``lr_multiplier``, ``train`` and ``dataloader`` with ``train`` and, to
evaluate, ``test`` and ``evaluator``; nothing else in this file depends on the task. ``--eval-only`` evaluates the
weights in ``train.init_checkpoint``; ``--resume`` goes on from the last checkpoint in ``train.output_dir``, or with an
evaluation that was broken off.
"""

import argparse
import logging
import os
from typing import Any

import torch

from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import LazyConfig, instantiate
from detectron2.engine import DefaultTrainer, default_argument_parser, default_setup, launch
from detectron2.evaluation import inference_on_dataset, print_csv_format, resumable_evaluation

logger = logging.getLogger("detectron2")


def do_test(cfg: Any, model: torch.nn.Module) -> dict[str, Any]:
    """Evaluate a model on the test data of a config; empty if the config has no evaluator."""
    if "evaluator" not in cfg.dataloader:
        logger.warning("the config has no dataloader.evaluator: nothing is evaluated")
        return {}
    loader = instantiate(cfg.dataloader.test)
    evaluators = instantiate(cfg.dataloader.evaluator)
    results = inference_on_dataset(
        model, loader, list(evaluators) if hasattr(evaluators, "__iter__") else evaluators
    )
    if all(isinstance(v, dict) for v in results.values()):
        print_csv_format(results)
    else:
        logger.info("results: %s", results)
    return dict(results)


def do_train(args: argparse.Namespace, cfg: Any) -> Any:
    """Train to the end and return the results of the last evaluation."""
    trainer = DefaultTrainer(cfg)
    trainer.resume_or_load(resume=args.resume)
    return trainer.train()


def main(args: argparse.Namespace) -> Any:
    """Run in each process."""
    cfg = LazyConfig.load(args.config_file)
    cfg = LazyConfig.apply_overrides(cfg, args.opts)
    default_setup(cfg, args)
    if not args.eval_only:
        return do_train(args, cfg)
    model = instantiate(cfg.model).to(cfg.train.device)
    DetectionCheckpointer(model, cfg.train.output_dir).resume_or_load(
        cfg.train.init_checkpoint or "", resume=args.resume
    )
    model.eval()
    with resumable_evaluation(os.path.join(cfg.train.output_dir, "inference"), resume=args.resume):
        return do_test(cfg, model)


if __name__ == "__main__":
    arguments = default_argument_parser().parse_args()
    launch(
        main,
        arguments.num_gpus,
        num_machines=arguments.num_machines,
        machine_rank=arguments.machine_rank,
        dist_url=arguments.dist_url,
        args=(arguments,),
    )
