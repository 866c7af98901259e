"""Five models on the CPU, prediction and training, beside torchvision's and beside themselves with torch's convolutions.

    python benchmarks/models.py [--models mask faster keypoint retinanet panoptic] [--size 320 480] [--rounds 5]
                                [--threads 1] [--no-training]

Both models have the same weights, anchors and thresholds, get the same picture and freeze the same layers, so that they
find the same boxes; the script stops if they do not. The classifier finds one class everywhere, which makes a hundred
masks to predict and to paste. torchvision has no panoptic model. "plain" is our model with the convolutions of torch in place of
those of ``detectron2.layers.winograd``. Rounds take turns in one process; medians of processor time in seconds
and their ratios to ours are printed (above 1: ours is faster).
"""

from __future__ import annotations

import argparse
import functools
import json
import statistics
import time
from collections.abc import Callable
from typing import Any
from unittest import mock

import torch
from torchvision.models.detection import FasterRCNN, KeypointRCNN, MaskRCNN, RetinaNet
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.models.detection.retinanet import _default_anchorgen
from torchvision.ops import FrozenBatchNorm2d
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

from detectron2 import model_zoo
from detectron2.checkpoint import convert_torchvision_weights, match_torchvision_anchors
from detectron2.modeling import build_model
from detectron2.structures import BitMasks, Boxes, Instances, Keypoints
from detectron2.utils.events import EventStorage

CONFIGS = {
    "mask": "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x.yaml",
    "faster": "COCO-Detection/faster_rcnn_R_50_FPN_1x.yaml",
    "keypoint": "COCO-Keypoints/keypoint_rcnn_R_50_FPN_1x.yaml",
    "retinanet": "COCO-Detection/retinanet_R_50_FPN_1x.yaml",
    "panoptic": "COCO-PanopticSegmentation/panoptic_fpn_R_50_1x.yaml",
}
CLASSES = 80
PROPOSALS = 1000
SAMPLES = 256


def ours(kind: str) -> torch.nn.Module:
    cfg = model_zoo.get_config(CONFIGS[kind])
    cfg.MODEL.DEVICE, cfg.MODEL.WEIGHTS, cfg.MODEL.RESNETS.STRIDE_IN_1X1 = "cpu", "", False
    cfg.INPUT.FORMAT = "RGB"
    cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]
    for head in (cfg.MODEL.ROI_BOX_HEAD, cfg.MODEL.ROI_MASK_HEAD, cfg.MODEL.ROI_KEYPOINT_HEAD):
        head.POOLER_TYPE, head.POOLER_SAMPLING_RATIO = "ROIAlign", 2
    cfg.MODEL.RPN.PRE_NMS_TOPK_TRAIN = cfg.MODEL.RPN.PRE_NMS_TOPK_TEST = PROPOSALS
    cfg.MODEL.RPN.POST_NMS_TOPK_TRAIN = cfg.MODEL.RPN.POST_NMS_TOPK_TEST = PROPOSALS
    cfg.MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE = SAMPLES
    model = build_model(cfg)
    calm(model, "conv3.norm.weight", getattr(model, "roi_heads", None), background=-1)
    return model


def theirs(kind: str, height: int, width: int) -> torch.nn.Module:
    # what maskrcnn_resnet50_fpn and its like build when they are given pre-trained weights
    levels = (
        {"returned_layers": [2, 3, 4], "extra_blocks": LastLevelP6P7(2048, 256)}
        if kind == "retinanet"
        else {}
    )
    backbone = resnet_fpn_backbone(
        backbone_name="resnet50", weights=None, norm_layer=FrozenBatchNorm2d, trainable_layers=3, **levels
    )
    size = {"min_size": min(height, width), "max_size": max(height, width)}
    if kind == "retinanet":
        model = RetinaNet(backbone, CLASSES + 1, anchor_generator=_default_anchorgen(), **size)
        for layer in model.head.classification_head.modules():
            if isinstance(layer, torch.nn.Conv2d):  # else all scores are the same
                torch.nn.init.kaiming_normal_(layer.weight)
        return calm(model, "bn3.weight", None)
    build = {"mask": MaskRCNN, "faster": FasterRCNN, "keypoint": KeypointRCNN}[kind]
    proposals = {
        f"rpn_{when}_nms_top_n_{mode}": PROPOSALS for when in ("pre", "post") for mode in ("train", "test")
    }
    classes = 2 if kind == "keypoint" else CLASSES + 1
    model = build(backbone, num_classes=classes, box_batch_size_per_image=SAMPLES, **size, **proposals)
    return calm(model, "bn3.weight", model.roi_heads, background=0)


@torch.no_grad()
def calm(model: torch.nn.Module, last_norm: str, heads: Any, background: int = 0) -> torch.nn.Module:
    """Scale random weights: the classifier finds one class everywhere, and activations stay of one order."""
    if heads is not None:
        classifier = heads.box_predictor.cls_score
        classifier.weight.normal_(std=0.01)
        classifier.bias.fill_(-10.0)
        classifier.bias[[background, 1 if background == 0 else 0]] = 0.0
    for name, tensor in model.state_dict().items():
        if name.endswith(last_norm):  # else activations grow from block to block, and boxes with them
            tensor.fill_(0.2)
    return model


def pair(kind: str, height: int, width: int) -> dict[str, torch.nn.Module]:
    mine = ours(kind)
    if kind == "panoptic":
        return {"ours": mine}
    other = theirs(kind, height, width)
    mine.load_state_dict(convert_torchvision_weights(other.state_dict()), strict=False)
    return {"ours": match_torchvision_anchors(mine), "torchvision": other}


def truth(height: int, width: int, count: int = 8) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    corner = torch.rand(count, 2, generator=generator) * torch.tensor([width * 0.6, height * 0.6])
    boxes = torch.cat((corner, corner + 30 + torch.rand(count, 2, generator=generator) * 60), dim=1)
    y, x = torch.arange(height)[None, :, None], torch.arange(width)[None, None, :]
    low, high = boxes[:, :2, None, None], boxes[:, 2:, None, None]
    masks = (x >= low[:, 0]) & (x < high[:, 0]) & (y >= low[:, 1]) & (y < high[:, 1])
    return boxes, torch.arange(count), masks


def train_steps(kind: str, height: int, width: int) -> dict[str, Callable[[], Any]]:
    picture = torch.rand(3, height, width, generator=torch.Generator().manual_seed(1))
    boxes, classes, masks = truth(height, width)
    classes = classes * 0 if kind == "keypoint" else classes
    points = torch.cat(
        (boxes[:, None, :2].expand(-1, 17, 2) + 10, torch.full((len(boxes), 17, 1), 2.0)), dim=2
    )
    instances = Instances(
        (height, width), gt_boxes=Boxes(boxes), gt_classes=classes, gt_masks=BitMasks(masks), gt_keypoints=Keypoints(points)
    )  # fmt: skip
    record = {
        "image": picture * 255,
        "instances": instances,
        "sem_seg": torch.zeros(height, width, dtype=torch.int64),
    }
    target = {"boxes": boxes, "labels": classes + 1, "masks": masks.to(torch.uint8), "keypoints": points}

    def step(model: torch.nn.Module, optimizer: torch.optim.Optimizer, *inputs: Any) -> None:
        optimizer.zero_grad()
        with EventStorage():
            sum(model(*inputs).values()).backward()  # type: ignore[union-attr]
        optimizer.step()

    inputs: dict[str, Any] = {"ours": ([record],), "torchvision": ([picture], [target])}
    runs = {}
    for name, model in pair(kind, height, width).items():
        trained = [p for p in model.train().parameters() if p.requires_grad]
        optimizer = torch.optim.SGD(trained, lr=1e-6, momentum=0.9)
        runs[name] = functools.partial(step, model, optimizer, *inputs[name])
    return with_plain(runs)


def predictions(kind: str, height: int, width: int) -> dict[str, Callable[[], Any]]:
    picture = torch.rand(3, height, width, generator=torch.Generator().manual_seed(1))
    inputs: dict[str, Any] = {"ours": [{"image": picture * 255}], "torchvision": [picture]}
    runs = {
        name: torch.inference_mode()(functools.partial(model.eval(), inputs[name]))
        for name, model in pair(kind, height, width).items()
    }
    boxes = runs["ours"]()[0]["instances"].pred_boxes.tensor
    if "torchvision" in runs:
        others = runs["torchvision"]()[0]["boxes"]
        same = int((torch.cdist(boxes, others, p=torch.inf) < 1).any(1).sum()) if len(boxes) else 0
        if len(boxes) != len(others) or same < 0.95 * len(boxes):  # rounding decides between equal scores
            raise SystemExit(f"{len(boxes)} and {len(others)} detections, of which {same} are the same")
        print(f"{len(boxes)} detections, {same} the same in both")
    return with_plain(runs)


def with_plain(runs: dict[str, Callable[[], Any]]) -> dict[str, Callable[[], Any]]:
    plain = mock.patch("detectron2.layers.wrappers.winograd_pays", return_value=False)
    return {**runs, "plain": plain(lambda *_: runs["ours"]())}


def compare(runs: dict[str, Callable[[], Any]], rounds: int) -> dict[str, Any]:
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for index in range(rounds + 1):
        for name, run in runs.items():
            torch.manual_seed(index)
            start = time.process_time()
            run()
            if index:  # the first round warms up
                seconds[name].append(time.process_time() - start)
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    return {
        **medians,
        **{f"{name}/ours": t / medians["ours"] for name, t in medians.items() if name != "ours"},
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="+", default=list(CONFIGS), choices=list(CONFIGS))
    parser.add_argument("--size", type=int, nargs=2, default=(320, 480), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--no-training", action="store_true", help="predictions only")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    for kind in args.models:
        for name, make in (("inference", predictions), ("training step", train_steps))[
            : 2 - args.no_training
        ]:
            torch.manual_seed(0)
            figures = compare(make(kind, *args.size), args.rounds)
            print(json.dumps({"model": kind, "what": name, "size": list(args.size), **figures}), flush=True)


if __name__ == "__main__":
    main()
