"""Images per second and peak memory of five detectors in every form, beside torchvision's, in one run.

    python benchmarks/gpu.py [--device cuda] [--size 800 1344] [--batch 2] [--minutes 10] [--models ...] [--forms ...] [--tiny]

Models: Faster, Mask and Keypoint R-CNN, RetinaNet and FCOS with ResNet-50-FPN, random weights. Forms: `eager`; `fixed`, the
fast form of docs/performance.md; `compiled`, the whole step where there is a fast form, else the backbone; `graphs`, the
step as a CUDA graph. Each in float32 (with TF32) and bfloat16, in training (forward, backward, optimizer) and prediction.
The data lie on the device. When the minutes are over, the script names the rows that it has not measured and ends, in the
midst of a compilation too: `--models` and `--forms` choose those for another run. `--tiny` checks the script on a CPU:
small images, one step, nothing worth quoting.
"""

from __future__ import annotations

import argparse
import gc
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torchvision
from torch import nn

from detectron2 import __version__, model_zoo
from detectron2.config import instantiate
from detectron2.modeling import build_model
from detectron2.structures import BitMasks, Boxes, Instances, Keypoints
from detectron2.utils.events import EventStorage

# Name: our config, torchvision's function.
MODELS = {
    "Faster R-CNN": ("COCO-Detection/faster_rcnn_R_50_FPN_1x.yaml", "fasterrcnn_resnet50_fpn"),
    "Mask R-CNN": ("COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x.yaml", "maskrcnn_resnet50_fpn"),
    "Keypoint R-CNN": ("COCO-Keypoints/keypoint_rcnn_R_50_FPN_1x.yaml", "keypointrcnn_resnet50_fpn"),
    "RetinaNet": ("COCO-Detection/retinanet_R_50_FPN_1x.yaml", "retinanet_resnet50_fpn"),
    "FCOS": ("COCO-Detection/fcos_R_50_FPN_1x.py", "fcos_resnet50_fpn"),
}
WITH_FAST_FORM = ("Faster R-CNN", "Mask R-CNN", "Keypoint R-CNN")
FORMS = ("eager", "fixed", "compiled", "graphs")
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}
OBJECTS = 8
# CPUs without bfloat16 take seconds for a full-size head.
TINY = (
    "MODEL.RESNETS.DEPTH", 18, "MODEL.RESNETS.RES2_OUT_CHANNELS", 64, "MODEL.ROI_BOX_HEAD.FC_DIM", 32,
    "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE", 8, "MODEL.RPN.POST_NMS_TOPK_TEST", 8, "TEST.DETECTIONS_PER_IMAGE", 4,
    "MODEL.FPN.OUT_CHANNELS", 32, "MODEL.ROI_MASK_HEAD.CONV_DIM", 16, "MODEL.ROI_KEYPOINT_HEAD.CONV_DIMS", (16,),
)  # fmt: skip
THEIR_TINY = {"box_batch_size_per_image": 8, "rpn_post_nms_top_n_test": 8, "box_detections_per_img": 4}
Step = Callable[[], object]


def our_model(name: str, form: str, device: str, backend: str) -> nn.Module | None:
    """Build our model in a form; None if it has none."""
    if form in ("fixed", "graphs") and name not in WITH_FAST_FORM:
        return None
    cfg: Any = model_zoo.get_config(MODELS[name][0])
    if MODELS[name][0].endswith(".py"):
        model: Any = instantiate(cfg.model).to(device)
    else:
        cfg.merge_from_list(
            ["MODEL.DEVICE", device, "MODEL.WEIGHTS", "", *(TINY if backend == "eager" else ())]
        )
        model = build_model(cfg)
    model.fixed_shapes = form != "eager" and name in WITH_FAST_FORM
    if form in ("compiled", "graphs"):
        options = {"mode": "reduce-overhead"} if form == "graphs" else {}
        part = model if name in WITH_FAST_FORM else model.backbone
        part.compile(backend=backend, **options)
    return model  # type: ignore[no-any-return]


def truth(size: tuple[int, int], device: str) -> dict[str, torch.Tensor]:
    """Objects of an image: boxes, labels, masks and keypoints."""
    height, width = size
    corner = torch.rand(OBJECTS, 2) * torch.tensor([width * 0.6, height * 0.6])
    boxes = torch.cat((corner, corner + torch.tensor([width * 0.2, height * 0.3])), dim=1)
    masks = torch.zeros(OBJECTS, height, width, dtype=torch.bool)
    for mask, (x0, y0, x1, y1) in zip(masks, boxes.int().tolist()):
        mask[y0:y1, x0:x1] = True
    points = torch.cat((boxes[:, None, :2].expand(-1, 17, 2) + 3, torch.ones(OBJECTS, 17, 1) * 2), dim=2)
    found = {"boxes": boxes, "labels": torch.ones(OBJECTS, dtype=torch.int64), "masks": masks}
    return {name: value.to(device) for name, value in (found | {"keypoints": points}).items()}


def our_batch(name: str, size: tuple[int, int], count: int, device: str) -> list[dict[str, Any]]:
    batch = []
    for _ in range(count):
        t = truth(size, device)
        instances = Instances(size, gt_boxes=Boxes(t["boxes"]))
        instances.gt_classes = t["labels"] - 1
        instances.gt_masks = BitMasks(t["masks"])
        if name == "Keypoint R-CNN":
            instances.gt_keypoints = Keypoints(t["keypoints"])
        image = torch.randint(0, 255, (3, *size), dtype=torch.uint8, device=device)
        batch.append({"image": image, "instances": instances})
    return batch


def our_steps(
    name: str, form: str, size: tuple[int, int], count: int, device: str, backend: str
) -> tuple[nn.Module, Step, Step] | None:
    """Return our model and what computes its losses and predicts."""
    model = our_model(name, form, device, backend)
    if model is None:
        return None
    batch = our_batch(name, size, count, device)
    images = [{"image": item["image"]} for item in batch]

    def losses() -> object:
        with EventStorage():
            return model(batch)

    return model, losses, lambda: model(images)


def their_steps(
    name: str, size: tuple[int, int], count: int, device: str, tiny: bool
) -> tuple[nn.Module, Step, Step]:
    """Return torchvision's model and what computes its losses and predicts."""
    build = getattr(torchvision.models.detection, MODELS[name][1])
    options = THEIR_TINY if tiny and "R-CNN" in name else {}
    model = build(weights=None, weights_backbone=None, min_size=min(size), max_size=max(size), **options).to(
        device
    )
    images = [torch.rand(3, *size, device=device) for _ in range(count)]
    targets = [
        {k: v.to(torch.uint8) if k == "masks" else v for k, v in truth(size, device).items()} for _ in images
    ]
    return model, lambda: model(images, targets), lambda: model(images)


def training(model: nn.Module, losses: Step, dtype: torch.dtype, device: str) -> Step:
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-5, fused=True)
    kind = torch.device(device).type
    model.train()

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast(kind, dtype=dtype, enabled=dtype != torch.float32):
            found: Any = losses()
        sum(found.values()).backward()
        optimizer.step()

    return step


def predicting(model: nn.Module, predict: Step, dtype: torch.dtype, device: str) -> Step:
    kind = torch.device(device).type
    model.eval()

    def step() -> None:
        with torch.inference_mode(), torch.autocast(kind, dtype=dtype, enabled=dtype != torch.float32):
            predict()

    return step


def measured(step: Step, images: int, device: str, seconds: float) -> str:
    """Images per second after a warm-up, and the peak memory."""
    on_cuda = torch.device(device).type == "cuda"

    def wait() -> float:
        if on_cuda:
            torch.cuda.synchronize()
        return time.perf_counter()

    for _ in range(4 if seconds else 0):  # compilation, records of graphs, work space
        step()
    if on_cuda:
        torch.cuda.reset_peak_memory_stats()
    start, steps = wait(), 0
    while steps < 1 or time.perf_counter() - start < seconds:
        step()
        steps += 1
    rate = steps * images / (wait() - start)
    memory = f"{torch.cuda.max_memory_allocated() / 2**30:6.2f} GiB" if on_cuda else "         -"
    return f"{rate:8.1f} images/s {memory}"


def rows() -> Iterator[tuple[str, str, str]]:
    """Model, maker and form, those first that take least time."""
    for name in MODELS:
        yield name, "torchvision", "eager"
        yield name, "detectron2", "eager"
    for form in FORMS[1:]:
        for name in MODELS:
            yield name, "detectron2", form


def run_row(row: tuple[str, str, str], args: argparse.Namespace) -> None:
    """Measure one model in one form."""
    name, maker, form = row
    size, backend = tuple(args.size), "eager" if args.tiny else "inductor"
    torch.manual_seed(0)
    if maker == "torchvision":
        made: Any = their_steps(name, size, args.batch, args.device, args.tiny)
    else:
        made = our_steps(name, form, size, args.batch, args.device, backend)
    if made is None:
        return
    model, losses, predict = made
    for precision, dtype in PRECISIONS.items():
        if args.tiny and maker == "torchvision" and precision == "bfloat16":
            continue  # a minute on CPUs without it, since these models have one size
        for work, prepare, function in (("training", training, losses), ("prediction", predicting, predict)):
            step = prepare(model, function, dtype, args.device)
            figures = measured(step, args.batch, args.device, 0.0 if args.tiny else 2.0)
            print(named(row), f"{precision:9s} {work:11s} {figures}", flush=True)
            del step
            model.zero_grad()
            gc.collect()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--size", type=int, nargs=2, default=(800, 1344), help="height and width")
    parser.add_argument("--batch", type=int, default=2, help="images per step")
    parser.add_argument("--minutes", type=float, default=10.0, help="the script ends after them")
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=list(MODELS))
    parser.add_argument("--forms", nargs="+", choices=FORMS, default=FORMS)
    parser.add_argument("--tiny", action="store_true", help="check the script on a CPU")
    args = parser.parse_args()
    if args.tiny:
        args.device, args.size, args.batch = "cpu", (32, 64), 1
    logging.disable(logging.WARNING)
    torch.set_float32_matmul_precision("high")
    where = torch.cuda.get_device_name() if torch.device(args.device).type == "cuda" else args.device
    print(
        f"{where}, detectron2 {__version__}, torch {torch.__version__}, torchvision {torchvision.__version__}"
    )
    print(f"{args.batch} images of {args.size[0]}x{args.size[1]} per step, {OBJECTS} objects each")
    left = [row for row in rows() if row[0] in args.models and row[2] in args.forms]
    if torch.device(args.device).type != "cuda":
        left = [row for row in left if row[2] != "graphs"]
    end_after(60 * args.minutes, left)
    failed = False
    while left:
        try:
            run_row(left[0], args)
        except Exception as error:  # such as too little memory for this model; the others may fit
            print(named(left[0]), f"failed: {type(error).__name__}: {str(error).strip()[:300]}", flush=True)
            failed = True
        left.pop(0)
    return int(failed)


def named(row: tuple[str, str, str]) -> str:
    return "{:15s} {:12s} {:9s}".format(*row)


def end_after(seconds: float, left: list[tuple[str, str, str]]) -> None:
    """End this process after some time; a compilation does not end earlier by itself."""

    def end() -> None:
        for row in list(left):
            print(named(row), "not measured in full, the time is up")
        sys.stdout.flush()
        os._exit(0)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()


if __name__ == "__main__":
    sys.exit(main())
