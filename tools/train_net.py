#!/usr/bin/env python
"""Trains or evaluates any model of this package from a yaml or Python config.

A program to copy and change: subclass `DefaultTrainer` where your training differs. For a loop
without a trainer class see `plain_train_net.py`.
"""

from __future__ import annotations

import argparse
import os
from typing import Any

from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config.types import Config
from detectron2.engine import DefaultTrainer, default_argument_parser, default_setup, launch
from detectron2.engine.run_config import load_run_config, run_config
from detectron2.evaluation import resumable_evaluation, verify_results
from detectron2.utils import comm


class Trainer(DefaultTrainer):
    """The usual trainer; the evaluator follows from the data set's metadata.

    Change a part by overriding its method, for example the data::

        @classmethod
        def build_train_loader(cls, cfg):
            return build_detection_train_loader(cfg, mapper=MyMapper(cfg))
    """

    @classmethod
    def test_with_TTA(cls, cfg: Config, model: Any) -> Any:
        """Evaluates with test-time augmentation; figures get the ending `_TTA`."""
        from detectron2.modeling import GeneralizedRCNNWithTTA

        results = cls.test(cfg, GeneralizedRCNNWithTTA(cfg, model))
        return {f"{task}_TTA": figures for task, figures in results.items()}


def setup(args: argparse.Namespace) -> Config:
    """The config that the arguments ask for, and a prepared process."""
    cfg = load_run_config(args.config_file, args.opts).cfg
    default_setup(cfg, args)
    return cfg


def evaluate(cfg: Config, args: argparse.Namespace) -> Any:
    """Evaluates the weights that the config names, or with `--resume` the last checkpoint.

    `--resume` also takes up an evaluation of the same weights that was broken off.
    """
    model = Trainer.build_model(cfg)
    run = run_config(cfg)
    folder = run.options.output_dir
    DetectionCheckpointer(model, save_dir=folder).resume_or_load(run.options.weights, resume=args.resume)
    # what each batch gives is written down, and with `--resume` not computed again
    with resumable_evaluation(os.path.join(folder, "inference"), resume=args.resume):
        results = Trainer.test(cfg, model)
        if run.get("TEST.AUG.ENABLED"):
            results = {**results, **Trainer.test_with_TTA(cfg, model)}
    if run.expected_results and comm.is_main_process():
        verify_results(cfg, results)
    return results


def main(args: argparse.Namespace) -> Any:
    """What each process does."""
    cfg = setup(args)
    if args.eval_only:
        return evaluate(cfg, args)
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=args.resume)
    return trainer.train()


def invoke_main() -> None:
    """Reads the command line and starts the processes."""
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


if __name__ == "__main__":
    invoke_main()
