"""Ways to run six detectors on a CPU beside eager, as ``detectron2 predict --fast`` measures them.

    python benchmarks/fastest.py [--models faster mask ...] [--size 480 640] [--objects 100] [--rounds 2] [--threads 1]
    python benchmarks/fastest.py --int8 RUN ...     # of trained runs, with their AP as they are and in 8 bits

The six are models of the zoo with ResNet-50 and FPN and random weights, scaled so that scores differ and as many objects as
asked for are found; a file is held against the model on the one picture only, since such weights give every place of a blank picture the
same score, and ties come in any order. Each way takes turns with eager in one process; the ratio of the shortest processor times is what counts. Files
and compiled code are made anew, which takes minutes for each model. One line of JSON is printed for each model; its
"shares" say what eager spends its time on.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import nn

from detectron2 import Predictor, model_zoo
from detectron2.cli import main as detectron2
from detectron2.config import CfgNode
from detectron2.export import writing
from detectron2.modeling import build_model
from detectron2.prediction.backends import TorchBackend
from detectron2.prediction.fastest import WAYS, fastest_backend
from detectron2.prediction.inputs import to_rgb
from detectron2.prediction.sources import find_files

MODELS = {
    "faster": "COCO-Detection/faster_rcnn_R_50_FPN_3x.yaml",
    "mask": "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_3x.yaml",
    "keypoint": "COCO-Keypoints/keypoint_rcnn_R_50_FPN_3x.yaml",
    "cascade": "Misc/cascade_mask_rcnn_R_50_FPN_3x.yaml",
    "retinanet": "COCO-Detection/retinanet_R_50_FPN_3x.yaml",
    "panoptic": "COCO-PanopticSegmentation/panoptic_fpn_R_50_3x.yaml",
}
SPREAD = 2.0  # standard deviation of logits
BEST = 10
KINDS = {
    "convolution": ("conv",),
    "matrix product": ("addmm", "aten::mm", "bmm", "linear"),
    "ROIAlign": ("roi_align",),
}  # parts of the names of operators
INT8_FORMATS = ("openvino", "onnx")


def config_of(name: str, height: int, width: int, objects: int) -> CfgNode:
    cfg = model_zoo.get_config(MODELS[name])
    assert isinstance(cfg, CfgNode)
    cfg.MODEL.DEVICE, cfg.MODEL.WEIGHTS, cfg.MODEL.PIXEL_STD = "cpu", "", [57.375, 57.12, 58.395]
    cfg.TEST.DETECTIONS_PER_IMAGE = objects
    cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST = min(height, width), max(height, width)
    return cfg


@torch.no_grad()
def calm(model: nn.Module, image: torch.Tensor) -> None:
    """Scale random weights so that activations stay of one order and logits differ."""
    for name, tensor in model.state_dict().items():
        if name.endswith("conv3.norm.weight"):  # else activations grow from block to block
            tensor.fill_(0.2)
    scored = {n: m for n, m in model.named_modules() if n.endswith(("cls_score", "objectness_logits")) and hasattr(m, "weight")}  # fmt: skip
    for _ in range(2):  # first the proposals, then the classes of these
        seen: dict[str, list[torch.Tensor]] = defaultdict(list)
        hooks = [m.register_forward_hook(partial(note, seen[n])) for n, m in scored.items()]
        model([{"image": image}])
        for hook in hooks:
            hook.remove()
        for name, layer in scored.items():
            layer.weight.mul_(SPREAD / torch.cat(seen[name]).std().clamp(min=1e-6))


def note(seen: list[torch.Tensor], module: nn.Module, given: Any, result: torch.Tensor) -> None:
    seen.append(result.flatten())


def backend_of(name: str, folder: Path, picture: np.ndarray, objects: int) -> TorchBackend:
    cfg = config_of(name, *picture.shape[:2], objects)
    torch.manual_seed(0)
    model = build_model(cfg).eval()
    calm(model, torch.from_numpy(picture.transpose(2, 0, 1).astype(np.float32)))
    cfg.MODEL.WEIGHTS = str(folder / "model.pth")
    torch.save({"model": model.state_dict()}, cfg.MODEL.WEIGHTS)
    backend = Predictor(cfg).backend
    assert isinstance(backend, TorchBackend)
    return backend


def first_scene(make: Callable[..., list[Any]], *given: Any) -> list[Any]:
    return make(*given)[:1]


def measure(backend: TorchBackend, pictures: Sequence[np.ndarray], folder: Path, ways: Sequence[str], rounds: int) -> dict[str, Any]:  # fmt: skip
    say = partial(print, file=sys.stderr, flush=True)
    _, found = fastest_backend(
        backend, pictures, folder=folder / "fast", ways=ways, rounds=rounds, clock=time.process_time, say=say
    )
    return {
        w.name: {"seconds": round(w.seconds, 3), "ratio": round(w.ratio, 2), "problem": w.problem}
        for w in found
    }


def best_ten(backend: TorchBackend, picture: np.ndarray, rounds: int) -> dict[str, float]:
    """Return the seconds that eager takes for all objects, and for the ten with the highest scores."""
    prepared = [backend.prepare(picture)]
    found = backend.run(prepared)[0].get("instances")
    if found is None or len(found) <= BEST:
        return {}
    least = float(found.scores.sort(descending=True).values[BEST - 1])
    times: dict[float | None, list[float]] = {None: [], least: []}
    for _ in range(rounds):
        for scores, seconds in times.items():
            start = time.process_time()
            backend.run(prepared, scores)
            seconds.append(time.process_time() - start)
    return {"all": round(min(times[None]), 3), "best ten": round(min(times[least]), 3)}


def shares_of(backend: TorchBackend, picture: np.ndarray) -> dict[str, float]:
    """Return which share of eager's time kinds of operators take."""
    prepared, spent = [backend.prepare(picture)], Counter[str]()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as found:
        backend.run(prepared)
    for event in found.key_averages():
        kind = next((k for k, names in KINDS.items() if any(n in event.key for n in names)), "other")
        spent[kind] += event.self_cpu_time_total
    return {kind: round(time / spent.total(), 2) for kind, time in spent.items()}


def int8_of(run: str, rounds: int) -> dict[str, Any]:
    """Export a run in 8 bits, with its AP before and after, and measure these files beside those of float32."""
    for to in INT8_FORMATS:
        status = detectron2(["export", run, "--to", to, "--precision", "int8", "--max-ap-drop", "100"])
        assert status == 0, f"{run} was not exported to {to}"
    backend = Predictor(run, device="cpu").backend
    assert isinstance(backend, TorchBackend)
    pictures = [to_rgb(file) for file in find_files([str(Path(run) / "data")])[:2]]
    with tempfile.TemporaryDirectory() as folder:
        return measure(backend, pictures, Path(folder), ("ONNX Runtime", "OpenVINO"), rounds)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="*", default=list(MODELS), choices=list(MODELS))
    parser.add_argument("--ways", nargs="*", default=list(WAYS), choices=list(WAYS), help="none: only shares")
    parser.add_argument("--size", type=int, nargs=2, default=(480, 640), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--objects", type=int, default=100, help="found in the picture")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--int8", nargs="+", default=(), metavar="RUN", help="runs with their data in data/")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    for run in args.int8:
        print(json.dumps({"run": run, **int8_of(run, args.rounds)}), flush=True)
    picture = np.random.default_rng(0).integers(0, 256, (*args.size, 3), dtype=np.uint8)
    for name in () if args.int8 else args.models:
        with tempfile.TemporaryDirectory() as folder:
            backend = backend_of(name, Path(folder), picture, args.objects)
            row = {"model": name, "size": list(args.size), "objects": args.objects}
            row["shares"] = shares_of(backend, picture)
            if args.ways:
                with mock.patch.object(writing, "make_scenes", partial(first_scene, writing.make_scenes)):
                    row |= measure(backend, [picture], Path(folder), args.ways, args.rounds)
                row["wanted"] = best_ten(backend, picture, args.rounds)
            print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
