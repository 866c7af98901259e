#!/usr/bin/env python
"""Train or evaluate any model of this package from a YAML or Python config.

A program to copy and change: subclass ``DefaultTrainer`` where your training differs. For a loop without a trainer
class see ``plain_train_net.py``.
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
from detectron2.modeling import GeneralizedRCNNWithTTA
from detectron2.utils import comm


class Trainer(DefaultTrainer):
    """The default trainer; the evaluator follows from the metadata of the data set.

    Change a part by overriding its method, for example the data::

        @classmethod
        def build_train_loader(cls, cfg):
            return build_detection_train_loader(cfg, mapper=MyMapper(cfg))
    """

    @classmethod
    def test_with_TTA(cls, cfg: Config, model: Any) -> Any:
        """Evaluate with test-time augmentation; the names of the results end in ``_TTA``."""
        results = cls.test(cfg, GeneralizedRCNNWithTTA(cfg, model))
        return {f"{task}_TTA": figures for task, figures in results.items()}


def setup(args: argparse.Namespace) -> Config:
    """Return the config that the arguments describe, and set up this process."""
    cfg = load_run_config(args.config_file, args.opts).cfg
    default_setup(cfg, args)
    return cfg


def evaluate(cfg: Config, args: argparse.Namespace) -> Any:
    """Evaluate the weights that the config names, or with ``--resume`` the last checkpoint.

    ``--resume`` also continues an interrupted evaluation of the same weights.
    """
    model = Trainer.build_model(cfg)
    run = run_config(cfg)
    folder = run.options.output_dir
    DetectionCheckpointer(model, save_dir=folder).resume_or_load(run.options.weights, resume=args.resume)
    # The results of each batch are written to disk, and with --resume not computed again.
    with resumable_evaluation(os.path.join(folder, "inference"), resume=args.resume):
        results = Trainer.test(cfg, model)
        if run.get("TEST.AUG.ENABLED"):
            results = {**results, **Trainer.test_with_TTA(cfg, model)}
    if run.expected_results and comm.is_main_process():
        verify_results(cfg, results)
    return results


def main(args: argparse.Namespace) -> Any:
    """Run in each process."""
    cfg = setup(args)
    if args.eval_only:
        return evaluate(cfg, args)
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=args.resume)
    return trainer.train()


def invoke_main() -> None:
    """Read the command line and start the processes."""
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
