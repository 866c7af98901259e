"""A small training as a program of its own, for tests that kill it or run several processes.

Usage: worker.py FOLDER [--resume] [--num-gpus N] [KEY VALUE ...]. Makes its data in FOLDER/data.

The environment says more: DIE (see `_Fuse`), TIMEOUT (seconds to wait for other processes), SLOW (while this file
exists, a step takes 50 ms). The losses of each iteration are added to FOLDER/losses.txt.
"""

import io
import json
import os
import signal
import sys
import time
from datetime import timedelta

import numpy as np
import torch
from PIL import Image
from torch import nn

from detectron2.config import get_cfg
from detectron2.data.datasets import register_coco_instances
from detectron2.engine import DefaultTrainer, HookBase, default_argument_parser, default_setup, launch
from detectron2.evaluation import DatasetEvaluator
from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.modeling.backbone.vit import ViT
from detectron2.utils import comm
from detectron2.utils.events import get_event_storage


@META_ARCH_REGISTRY.register()
class TinyNet(nn.Module):
    """Convolution, batch norm, dropout: state, statistics and randomness, in a few milliseconds."""

    def __init__(self, cfg):
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.BatchNorm2d(4), nn.ReLU())
        self.drop = nn.Dropout(0.3)
        self.head = nn.Linear(4, 2)

    def features(self, x):
        return self.backbone(x)

    def forward(self, batched_inputs):
        x = torch.stack(
            [nn.functional.interpolate(d["image"][None].float(), (16, 16))[0] for d in batched_inputs]
        )
        y = self.head(self.drop(self.features(x / 64.0).mean((2, 3))))
        if not self.training:
            return [{"score": float(v)} for v in y.mean(1)]
        boxes = torch.stack([d["instances"].gt_boxes.tensor.mean(0)[:2] for d in batched_inputs])
        get_event_storage().put_scalar("tiny/mean", float(y.detach().mean()))
        return {"loss_fit": (y - boxes / 32.0).square().mean(), "loss_size": 0.01 * y.square().mean()}


@META_ARCH_REGISTRY.register()
class PlainNet(TinyNet):
    """Without batch statistics and dropout: the mean over processes is the mean over the whole batch."""

    def __init__(self, cfg):
        super().__init__(cfg)
        self.backbone[1] = nn.GroupNorm(2, 4)
        self.drop = nn.Identity()


@META_ARCH_REGISTRY.register()
class TinyViT(PlainNet):
    """The same on a vision transformer, whose blocks can be sharded."""

    def __init__(self, cfg):
        super().__init__(cfg)
        self.backbone = ViT(
            img_size=32,
            patch_size=8,
            embed_dim=16,
            depth=4,
            num_heads=2,
            pretrain_img_size=16,
            use_rel_pos=True,
        )
        self.head = nn.Linear(16, 2)

    def features(self, x):
        return self.backbone(x)["last_feat"]


class MeanScore(DatasetEvaluator):
    def reset(self):
        self.scores = []

    def process(self, inputs, outputs):
        self.scores += [o["score"] for o in outputs]
        once = os.environ.get("KILL_EVALUATOR", "")
        if once and len(self.scores) == 2 and comm.get_rank() == 1 and not os.path.exists(once):
            open(once, "w").close()
            os.kill(os.getpid(), signal.SIGKILL)

    def evaluate(self):
        scores = [s for part in comm.all_gather(self.scores) for s in part]
        torch.rand(3)  # evaluation must not disturb the training's random numbers
        return {"tiny": {"score": float(np.mean(scores))}} if comm.is_main_process() else None


class Watch(HookBase):
    """Keeps the loss of each iteration, and slows the training down while the file SLOW exists."""

    def __init__(self, folder):
        self.path = os.path.join(folder, "losses.txt")
        self.last = -1

    def after_step(self):
        if comm.is_main_process() and "total_loss" in self.trainer.storage.histories():
            with open(self.path, "a") as file:
                for loss, iteration in self.trainer.storage.history("total_loss").values():
                    if iteration > self.last:
                        file.write(f"{iteration} {loss!r}\n")
                        self.last = iteration
        if os.path.exists(os.environ.get("SLOW", "")):
            time.sleep(0.05)


class Trainer(DefaultTrainer):
    @classmethod
    def build_evaluator(cls, cfg, dataset_name):
        return MeanScore()


def make_data(folder, count=10):
    """A COCO file with upright and lying pictures."""
    path = os.path.join(folder, "data.json")
    if os.path.exists(path):
        return path
    rng = np.random.default_rng(0)
    images, annotations = [], []
    for i in range(count):
        width, height = (32, 24) if i % 3 else (24, 32)
        name = f"{i}.png"
        Image.fromarray(rng.integers(0, 255, (height, width, 3), dtype=np.uint8)).save(
            os.path.join(folder, name)
        )
        images.append({"id": i + 1, "file_name": name, "width": width, "height": height})
        x, y = (int(v) for v in rng.integers(0, 12, 2))
        box = [x, y, 8, 8]
        annotations.append(
            {"id": i + 1, "image_id": i + 1, "category_id": 1, "bbox": box, "area": 64, "iscrowd": 0}
        )
    content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "thing"}]}
    with open(path + ".tmp", "w") as f:
        json.dump(content, f)
    os.replace(path + ".tmp", path)
    return path


def make_cfg(folder, opts=()):
    data = os.path.join(folder, "data")
    os.makedirs(data, exist_ok=True)
    if comm.is_main_process():
        make_data(data)
    comm.synchronize()
    register_coco_instances("tiny_engine_data", {}, os.path.join(data, "data.json"), data)
    cfg = get_cfg()
    cfg.merge_from_list(
        [
            "MODEL.META_ARCHITECTURE", "TinyNet", "MODEL.DEVICE", "cpu", "DATASETS.TRAIN", ("tiny_engine_data",),
            "DATASETS.TEST", ("tiny_engine_data",), "DATALOADER.NUM_WORKERS", 0, "SOLVER.IMS_PER_BATCH", 2,
            "INPUT.MIN_SIZE_TRAIN", (20, 28), "INPUT.MIN_SIZE_TEST", 24, "SOLVER.MAX_ITER", 60, "SOLVER.STEPS", (40,),
            "SOLVER.WARMUP_ITERS", 10, "SOLVER.BASE_LR", 0.01, "SOLVER.CHECKPOINT_PERIOD", 5, "TEST.EVAL_PERIOD", 10,
            "SEED", 7, "OUTPUT_DIR", os.path.join(folder, "out"), "SOLVER.REPORT_PERIOD", 0, "WRITERS.TENSORBOARD", False,
            "SOLVER.BEST_CHECKPOINT.METRIC", "tiny/score", "SOLVER.LOG_PERIOD", 5, *opts,
        ]
    )  # fmt: skip
    cfg.freeze()
    return cfg


class _Fuse:
    """Kills this process, as power loss would, at the place that DIE names: `step:N`, `save:N` or `eval:N`.

    `save:N` dies when half of the checkpoint of iteration N is on disk. `hang:N` stops the last rank in the step.
    """

    def __init__(self, trainer):
        place, _, number = os.environ.get("DIE", "").partition(":")
        if not place:
            return
        self.trainer, self.number = trainer, int(number)
        setattr(*self.target(place))

    def target(self, place):
        if place in ("step", "hang"):
            self.hangs = place == "hang"
            model = self.trainer._trainer.model
            head = getattr(model, "module", model).head
            return head, "forward", self.wrap(head.forward)
        if place == "save":
            return torch, "save", self.half(torch.save)
        return MeanScore, "process", self.wrap(MeanScore.process)

    def now(self):
        return self.trainer.iter == self.number

    def wrap(self, function):
        def deadly(*args, **kwargs):
            if self.now() and getattr(self, "hangs", False):
                time.sleep(3600 if comm.get_rank() == comm.get_world_size() - 1 else 0)
            elif self.now():
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*args, **kwargs)

        return deadly

    def half(self, save):
        def deadly(data, file, *args, **kwargs):
            if self.now():
                buffer = io.BytesIO()
                save(data, buffer)
                file.write(buffer.getvalue()[: buffer.tell() // 2])
                file.flush()
                os.kill(os.getpid(), signal.SIGKILL)
            save(data, file, *args, **kwargs)

        return deadly


def main(args):
    torch.set_num_threads(1)
    cfg = make_cfg(args.folder, args.opts)
    default_setup(cfg, args)
    trainer = Trainer(cfg)
    trainer.register_hooks([Watch(args.folder)])
    trainer._hooks.insert(
        0, trainer._hooks.pop()
    )  # before the checkpoint, after which an iteration is not run again
    _Fuse(trainer)
    trainer.resume_or_load(args.resume)
    trainer.train()


if __name__ == "__main__":
    parser = default_argument_parser()
    folder, rest = sys.argv[1], sys.argv[2:]
    arguments = parser.parse_args(rest)
    arguments.folder = folder
    patience = timedelta(seconds=float(os.environ.get("TIMEOUT", "300")))
    launch(main, arguments.num_gpus, args=(arguments,), timeout=patience)
