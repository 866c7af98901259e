"""Mask R-CNN R50-FPN beside torchvision's, on the CPU: one training step, and inference.

    python benchmarks/models.py [--size 320 480] [--rounds 5] [--threads 1]

Both models have the same weights, anchors and thresholds, get the same picture and freeze the same layers, so that they
find the same boxes; the script stops if they do not. The classifier finds one class everywhere, which makes a hundred
masks to predict and to paste. Rounds alternate between the two in one process; medians of processor time in seconds
and their ratio are printed (above 1: ours is faster).
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.ops import FrozenBatchNorm2d

from detectron2 import model_zoo
from detectron2.checkpoint import convert_torchvision_weights, match_torchvision_anchors
from detectron2.modeling import build_model
from detectron2.structures import BitMasks, Boxes, Instances
from detectron2.utils.events import EventStorage

CLASSES = 80
PROPOSALS = 1000
SAMPLES = 256


def ours(weights: dict[str, torch.Tensor]) -> torch.nn.Module:
    cfg = model_zoo.get_config("COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x.yaml")
    cfg.MODEL.DEVICE, cfg.MODEL.WEIGHTS, cfg.MODEL.RESNETS.STRIDE_IN_1X1 = "cpu", "", False
    cfg.INPUT.FORMAT = "RGB"
    cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]
    for head in (cfg.MODEL.ROI_BOX_HEAD, cfg.MODEL.ROI_MASK_HEAD):
        head.POOLER_TYPE, head.POOLER_SAMPLING_RATIO = "ROIAlign", 2
    cfg.MODEL.RPN.PRE_NMS_TOPK_TRAIN = cfg.MODEL.RPN.PRE_NMS_TOPK_TEST = PROPOSALS
    cfg.MODEL.RPN.POST_NMS_TOPK_TRAIN = cfg.MODEL.RPN.POST_NMS_TOPK_TEST = PROPOSALS
    cfg.MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE = SAMPLES
    model = build_model(cfg)
    model.load_state_dict(convert_torchvision_weights(weights), strict=False)
    return match_torchvision_anchors(model)


def pair(height: int, width: int) -> tuple[torch.nn.Module, torch.nn.Module]:
    other = theirs(height, width)
    return ours(other.state_dict()), other


def theirs(height: int, width: int) -> torch.nn.Module:
    # what maskrcnn_resnet50_fpn builds when it is given pre-trained weights
    backbone = resnet_fpn_backbone(
        backbone_name="resnet50", weights=None, norm_layer=FrozenBatchNorm2d, trainable_layers=3
    )
    model = MaskRCNN(
        backbone,
        num_classes=CLASSES + 1,
        min_size=min(height, width),
        max_size=max(height, width),
        rpn_pre_nms_top_n_train=PROPOSALS,
        rpn_pre_nms_top_n_test=PROPOSALS,
        rpn_post_nms_top_n_train=PROPOSALS,
        rpn_post_nms_top_n_test=PROPOSALS,
        box_batch_size_per_image=SAMPLES,
    )
    classifier = model.roi_heads.box_predictor.cls_score
    with torch.no_grad():
        classifier.weight.normal_(std=0.01)
        classifier.bias.fill_(-10.0)
        classifier.bias[:2] = 0.0  # the background and the first class
        for name, tensor in model.state_dict().items():
            if name.endswith("bn3.weight"):  # else activations grow from block to block, and boxes with them
                tensor.fill_(0.2)
    return model


def truth(height: int, width: int, count: int = 8) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    corner = torch.rand(count, 2, generator=generator) * torch.tensor([width * 0.6, height * 0.6])
    boxes = torch.cat((corner, corner + 30 + torch.rand(count, 2, generator=generator) * 60), dim=1)
    y, x = torch.arange(height)[None, :, None], torch.arange(width)[None, None, :]
    low, high = boxes[:, :2, None, None], boxes[:, 2:, None, None]
    masks = (x >= low[:, 0]) & (x < high[:, 0]) & (y >= low[:, 1]) & (y < high[:, 1])
    return boxes, torch.arange(count), masks


def train_steps(height: int, width: int) -> dict[str, Callable[[], Any]]:
    picture = torch.rand(3, height, width, generator=torch.Generator().manual_seed(1))
    boxes, classes, masks = truth(height, width)
    mine, other = (model.train() for model in pair(height, width))
    instances = Instances(
        (height, width), gt_boxes=Boxes(boxes), gt_classes=classes, gt_masks=BitMasks(masks)
    )
    optimizers = [torch.optim.SGD(m.parameters(), lr=1e-6, momentum=0.9) for m in (mine, other)]

    def step(losses: dict[str, torch.Tensor], optimizer: torch.optim.Optimizer) -> None:
        optimizer.zero_grad()
        sum(losses.values()).backward()  # type: ignore[union-attr]
        optimizer.step()

    def step_mine() -> None:
        with EventStorage():
            step(mine([{"image": picture * 255, "instances": instances}]), optimizers[0])

    def step_other() -> None:
        target = {"boxes": boxes, "labels": classes + 1, "masks": masks.to(torch.uint8)}
        step(other([picture], [target]), optimizers[1])

    return {"ours": step_mine, "torchvision": step_other}


def predictions(height: int, width: int) -> dict[str, Callable[[], Any]]:
    picture = torch.rand(3, height, width, generator=torch.Generator().manual_seed(1))
    mine, other = (model.eval() for model in pair(height, width))

    @torch.inference_mode()
    def run_mine() -> Any:
        return mine([{"image": picture * 255}])

    @torch.inference_mode()
    def run_other() -> Any:
        return other([picture])

    boxes = run_mine()[0]["instances"].pred_boxes.tensor
    torch.testing.assert_close(boxes, run_other()[0]["boxes"], rtol=1e-3, atol=0.1)
    print(f"{len(boxes)} detections, the same in both")
    return {"ours": run_mine, "torchvision": run_other}


def compare(runs: dict[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for index in range(rounds + 1):
        for name, run in runs.items():
            torch.manual_seed(index)
            start = time.process_time()
            run()
            if index:  # the first round warms up
                seconds[name].append(time.process_time() - start)
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    return {**medians, "ratio": medians["torchvision"] / medians["ours"]}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, nargs=2, default=(320, 480), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    for name, make in (("inference", predictions), ("training step", train_steps)):
        print(json.dumps({"what": name, "size": list(args.size), **compare(make(*args.size), args.rounds)}))


if __name__ == "__main__":
    main()
