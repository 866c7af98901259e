"""Arguments of the commands that train and evaluate."""

import argparse

from .shared import DATA_HELP, augmentation, engine, examples, labels, overrides, overwrite, tiles

__all__ = ["eval_arguments", "quickstart_arguments", "replay_arguments", "train_arguments"]


def quickstart_arguments(p: argparse.ArgumentParser) -> None:
    examples(
        p,
        "detectron2 quickstart",
        "detectron2 quickstart --output first --device cpu SOLVER.MAX_ITER 20",
    )
    p.add_argument("--output", default="output/quickstart", help="folder to write (default: %(default)s)")
    p.add_argument("--device", help="cpu, cuda, mps … (default: the best there is)")
    p.add_argument("--seed", type=int, default=7, help="seed of the run (default: %(default)s)")
    p.add_argument("--resume", action="store_true", help="resume from the last checkpoint in --output")
    overwrite(p)
    overrides(p)


def train_arguments(p: argparse.ArgumentParser) -> None:
    examples(
        p,
        "detectron2 train --train toys/train.json --val toys/val.json --output runs/toys",
        "detectron2 train --train shop/ --model mask_rcnn_R_50_FPN_3x --epochs 20 SOLVER.BASE_LR 0.001",
    )
    p.add_argument("--train", metavar="DATA", help=f"training data: {DATA_HELP}")
    p.add_argument(
        "--val",
        metavar="DATA",
        help="validation data (default: the validation part of --train, else a fifth of it)",
    )
    labels(p)
    p.add_argument("--train-images", metavar="DIR", help="image folder of --train, if it is not found")
    p.add_argument("--val-images", metavar="DIR", help="image folder of --val, if it is not found")
    p.add_argument(
        "--model",
        help="name in the model zoo, or a config file (default: the Faster, Mask or Keypoint R-CNN that fits the labels; "
        "`detectron2 zoo` lists all)",
    )
    p.add_argument("--output", help="folder of the run (default: runs/NAME-OF-DATA-MODEL)")
    p.add_argument(
        "--weights",
        default="auto",
        help="auto: the zoo's weights for the model, else its pretrained backbone, else none with a warning; "
        "zoo, backbone, none, or a file or URL (default: %(default)s)",
    )
    p.add_argument(
        "--epochs", type=float, help="length in passes over the data (default: from data and model)"
    )
    p.add_argument("--batch-size", type=int, help="images per step, over all devices")
    p.add_argument("--device", help="cpu, cuda, mps … (default: the best there is)")
    p.add_argument("--num-gpus", type=int, default=1, help="processes, one per GPU (default: %(default)s)")
    engine(p, "train on Ray: --num-workers processes, checkpoints in --storage")
    p.add_argument(
        "--storage",
        metavar="PLACE",
        help="with --engine ray: folder or URI for checkpoints that all machines reach (default: ray in --output)",
    )
    p.add_argument("--workers", type=int, help="loader processes (default: from the number of processors)")
    p.add_argument("--seed", type=int, default=0, help="seed of the run (default: %(default)s)")
    p.add_argument(
        "--resume", action="store_true", help="resume from the last complete checkpoint in --output"
    )
    tiles(p, "train on tiles of this side, and validate whole images tile by tile")
    p.add_argument(
        "--empty-tiles",
        type=float,
        default=0.1,
        metavar="RATIO",
        help="training tiles without an object per tile with one (default: %(default)s)",
    )
    p.add_argument(
        "--dense",
        action="store_true",
        help="for images with very many objects: more proposals, samples and detections, smaller anchors",
    )
    p.add_argument(
        "--fast",
        action="store_true",
        help="switch on what makes training fast on this device, and say what that is",
    )
    overwrite(p)
    overrides(p)


def eval_arguments(p: argparse.ArgumentParser) -> None:
    examples(
        p,
        "detectron2 eval runs/toys",
        "detectron2 eval runs/toys --data new/labels.json --against runs/older",
    )
    p.add_argument(
        "model", help="folder that `detectron2 train` wrote, or a file that `detectron2 export` wrote"
    )
    p.add_argument("--data", metavar="DATA", help=f"{DATA_HELP} (default: the run's validation data)")
    labels(p)
    p.add_argument("--weights", default="best", help="best, final, or a file (default: %(default)s)")
    p.add_argument("--output", help="folder to write (default: MODEL/eval)")
    p.add_argument(
        "--against",
        metavar="OTHER_RUN",
        help="also write comparison.html: this run against another one, on the same data",
    )
    p.add_argument("--device", help="cpu, cuda, mps … (default: the best there is)")
    p.add_argument(
        "--resume",
        action="store_true",
        help="skip images that an interrupted evaluation in --output has evaluated",
    )
    augmentation(p)
    engine(p, "predict on Ray, with --num-workers copies of the model")
    tiles(p, "predict tiles of this side and merge them (default: as in the training; 0 = whole images)")
    overrides(p)


def replay_arguments(p: argparse.ArgumentParser) -> None:
    examples(
        p,
        "detectron2 replay runs/toys",
        "detectron2 replay runs/toys --device cuda --dtype float32",
    )
    p.add_argument("batch", help="a file of bad_batches/, or the folder of a run, for its last one")
    p.add_argument("--config-file", metavar="FILE", help="config of the training (default: the run's own)")
    p.add_argument("--device", default="cpu", help="cpu, cuda … (default: %(default)s)")
    p.add_argument("--dtype", help="float32, float16 or bfloat16 (default: that of the training)")
    overrides(p)
