"""The predictor's throughput beside that of its model alone, at one batch size.

    python benchmarks/prediction.py [--size 480 640] [--images 32] [--batch 8] [--rounds 3] [--threads 1]

A Mask R-CNN R50-FPN reads JPEG files of photographic texture. "model" is the time of the forward passes alone, on inputs
that are ready; "stream" that of `predictor.stream(files)`, reading, resizing, ordering and all; "call" that of
`predictor(files)`. Rounds alternate; medians of seconds an image are printed (processor time, that of all threads; on a GPU
elapsed time), and their ratio to the model's own (1: the same; above 1.1: more than a tenth is lost).
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from detectron2 import Predictor, model_zoo
from detectron2.modeling import build_model
from detectron2.prediction.inputs import to_rgb


def photographs(folder: Path, count: int, height: int, width: int) -> list[str]:
    rng = np.random.default_rng(0)
    paths = []
    for k in range(count):
        coarse = Image.fromarray(rng.integers(0, 255, (height // 16, width // 16, 3), dtype=np.uint8))
        path = folder / f"{k:03d}.jpg"
        coarse.resize((width, height), Image.Resampling.BICUBIC).save(path, quality=92)
        paths.append(str(path))
    return paths


def predictor_of(folder: Path, batch: int, size: int) -> Predictor:
    """A model with random weights whose classifier finds one class everywhere: ten masks an image."""
    cfg = model_zoo.get_config("COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x.yaml")
    cfg.MODEL.DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
    cfg.MODEL.WEIGHTS, cfg.MODEL.PIXEL_STD = "", [57.375, 57.12, 58.395]
    cfg.INPUT.MIN_SIZE_TEST, cfg.TEST.DETECTIONS_PER_IMAGE = size, 10
    torch.manual_seed(0)
    model = build_model(cfg)
    classifier = model.roi_heads.box_predictor.cls_score
    with torch.no_grad():
        classifier.weight.normal_(std=0.01)
        classifier.bias.fill_(-10.0)
        classifier.bias[[0, -1]] = 0.0
    weights = folder / "model.pth"
    torch.save({"model": model.state_dict()}, weights)
    cfg.MODEL.WEIGHTS = str(weights)
    return Predictor(cfg, batch_size=batch, scores=None)


def runs_of(predictor: Predictor, files: list[str], batch: int) -> dict[str, Callable[[], Any]]:
    prepared = [predictor.backend.prepare(to_rgb(file)) for file in files]

    def wait() -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()

    def model() -> None:
        for k in range(0, len(prepared), batch):
            for output in predictor.backend.run(prepared[k : k + batch]):
                output["instances"].to("cpu")
        wait()

    def stream() -> None:
        assert sum(1 for _ in predictor.stream(files)) == len(files)

    def call() -> None:
        for k in range(0, len(files), batch):
            predictor(files[k : k + batch])
        wait()

    return {"model": model, "stream": stream, "call": call}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, nargs=2, default=(480, 640), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--images", type=int, default=32)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    clock = time.perf_counter if torch.cuda.is_available() else time.process_time
    with tempfile.TemporaryDirectory() as folder:
        files = photographs(Path(folder), args.images, *args.size)
        predictor = predictor_of(Path(folder), args.batch, min(args.size))
        runs = runs_of(predictor, files, args.batch)
        seconds: dict[str, list[float]] = {name: [] for name in runs}
        for index in range(args.rounds + 1):
            for name, run in runs.items():
                start = clock()
                run()
                if index:  # the first round warms up
                    seconds[name].append((clock() - start) / args.images)
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    ratios = {f"{name}/model": medians[name] / medians["model"] for name in ("stream", "call")}
    print(json.dumps({"size": list(args.size), "batch": args.batch, **medians, **ratios}))


if __name__ == "__main__":
    main()
