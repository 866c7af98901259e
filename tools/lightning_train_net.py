#!/usr/bin/env python
"""Train a model of this package with PyTorch Lightning instead of this package's loop.

Needs ``pip install lightning``. An example of how the parts fit into another framework: models take
a list of dicts and return a dict of losses, loaders are plain iterables.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable
from typing import Any

import torch

from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import CfgNode, get_cfg
from detectron2.data import build_detection_test_loader, build_detection_train_loader
from detectron2.engine import default_argument_parser, default_setup
from detectron2.evaluation import print_csv_format
from detectron2.evaluation.build import build_evaluator
from detectron2.modeling import build_model
from detectron2.solver import build_lr_scheduler, build_optimizer
from detectron2.utils.events import EventStorage

try:
    import lightning.pytorch as pl
    from lightning.pytorch.callbacks import ModelCheckpoint
except ImportError as error:
    raise SystemExit("This example needs Lightning: pip install lightning") from error


class DetectionModule(pl.LightningModule):
    """A model with its optimizer, schedule and evaluators."""

    def __init__(self, cfg: CfgNode) -> None:
        super().__init__()
        self.cfg = cfg
        self.model = build_model(cfg)
        DetectionCheckpointer(self.model).load(cfg.MODEL.WEIGHTS)
        self.storage: EventStorage | None = None
        self.evaluators: list[Any] = []

    def training_step(self, batch: list[dict[str, Any]], batch_idx: int) -> torch.Tensor:
        """Return the sum of the losses; models write to the event storage, so one must be open."""
        if self.storage is None:
            self.storage = EventStorage(self.global_step)
        self.storage.iter = self.global_step
        with self.storage:
            losses = self.model(batch)
        self.log_dict({name: value.detach() for name, value in losses.items()}, prog_bar=True)
        return sum(losses.values())  # type: ignore[return-value]

    def on_validation_epoch_start(self) -> None:
        """Build one evaluator for each data set."""
        self.evaluators = []
        for name in self.cfg.DATASETS.TEST:
            folder = os.path.join(self.cfg.OUTPUT_DIR, "inference", name)
            evaluator = build_evaluator(self.cfg, name, folder)
            evaluator.reset()
            self.evaluators.append(evaluator)

    def validation_step(self, batch: list[dict[str, Any]], batch_idx: int, dataloader_idx: int = 0) -> None:
        """Collect predictions."""
        self.evaluators[dataloader_idx].process(batch, self.model(batch))

    def on_validation_epoch_end(self) -> None:
        """Print the results."""
        for evaluator in self.evaluators:
            results = evaluator.evaluate()
            if results:
                print_csv_format(results)

    def on_train_end(self) -> None:
        """Save the weights in the format that all other programs of this package read."""
        DetectionCheckpointer(self.model, self.cfg.OUTPUT_DIR).save("model_final")

    def configure_optimizers(self) -> tuple[list[torch.optim.Optimizer], list[dict[str, Any]]]:
        """Build the optimizer and a schedule that advances in each step."""
        optimizer = build_optimizer(self.cfg, self.model)
        schedule = build_lr_scheduler(self.cfg, optimizer)
        return [optimizer], [{"scheduler": schedule, "interval": "step"}]


class DetectionData(pl.LightningDataModule):
    """The data loaders of a config."""

    def __init__(self, cfg: CfgNode) -> None:
        super().__init__()
        self.cfg = cfg

    def train_dataloader(self) -> Iterable[Any]:
        return build_detection_train_loader(self.cfg)

    def val_dataloader(self) -> list[Any]:
        return [build_detection_test_loader(self.cfg, name) for name in self.cfg.DATASETS.TEST]


def main(args: argparse.Namespace) -> None:
    """Train or evaluate."""
    cfg = get_cfg()
    cfg.merge_from_file(args.config_file)
    cfg.merge_from_list(args.opts)
    cfg.freeze()
    default_setup(cfg, args)
    trainer = pl.Trainer(
        max_steps=cfg.SOLVER.MAX_ITER,
        max_epochs=-1,
        # The data have no end, so there are no epochs to count.
        val_check_interval=cfg.TEST.EVAL_PERIOD or cfg.SOLVER.MAX_ITER,
        check_val_every_n_epoch=None,
        devices=max(args.num_gpus, 1),
        num_nodes=args.num_machines,
        accelerator="gpu" if cfg.MODEL.DEVICE.startswith("cuda") else "cpu",
        default_root_dir=cfg.OUTPUT_DIR,
        num_sanity_val_steps=0,
        callbacks=[
            ModelCheckpoint(
                dirpath=cfg.OUTPUT_DIR,
                filename="step_{step}",
                auto_insert_metric_name=False,
                every_n_train_steps=cfg.SOLVER.CHECKPOINT_PERIOD,
                save_last=True,
            )
        ],
        use_distributed_sampler=False,  # the loaders split the data over processes themselves
    )
    last = os.path.join(cfg.OUTPUT_DIR, "last.ckpt") if args.resume else None
    module, data = DetectionModule(cfg), DetectionData(cfg)
    if args.eval_only:
        trainer.validate(module, data, ckpt_path=last)
    else:
        trainer.fit(module, data, ckpt_path=last)


if __name__ == "__main__":
    main(default_argument_parser().parse_args())
