"""Exported files beside their models; processor time, one thread.

    python benchmarks/export.py [--models mask_rcnn retinanet] [--forms onnx openvino-int8] [--size 320 480] [--rounds 5]

R50-FPN models with random weights, for pictures of one size. A form is a format and its precision. Each file has been
proved to give what the model gives; both sides then take the same picture by turns. "speedup" is the median of the
model's times divided by that of the file's. Formats whose packages are missing are left out.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from prediction import photographs

from detectron2 import model_zoo
from detectron2.data.detection_utils import read_image
from detectron2.export import ExportedModel, ExportOptions, export_model, load_exported
from detectron2.modeling import build_model

CONFIGS = {
    "faster_rcnn": "COCO-Detection/faster_rcnn_R_50_FPN_1x.yaml",
    "mask_rcnn": "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x.yaml",
    "keypoint_rcnn": "COCO-Keypoints/keypoint_rcnn_R_50_FPN_1x.yaml",
    "retinanet": "COCO-Detection/retinanet_R_50_FPN_1x.yaml",
}
FORMS = ("pt2", "onnx", "onnx-int8", "openvino", "openvino-int8", "torchscript", "aoti")


def model_of(name: str) -> torch.nn.Module:
    """A model of the zoo that finds some objects everywhere: ten an image at most."""
    cfg = model_zoo.get_config(CONFIGS[name])
    cfg.MODEL.DEVICE, cfg.MODEL.WEIGHTS, cfg.MODEL.PIXEL_STD = "cpu", "", [57.375, 57.12, 58.395]
    cfg.TEST.DETECTIONS_PER_IMAGE = 10
    cfg.MODEL.RPN.POST_NMS_TOPK_TEST, cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = 300, 0.0
    cfg.MODEL.RETINANET.SCORE_THRESH_TEST = 0.0
    torch.manual_seed(0)
    return build_model(cfg).eval()


def seconds(model: torch.nn.Module, file: ExportedModel, image: Any, rounds: int) -> tuple[float, float]:
    """Medians of the processor time of both."""
    item = {"image": file.resize(image)}

    def eager() -> Any:
        with torch.no_grad():
            return model([item])

    times: dict[str, list[float]] = {"eager": [], "file": []}
    for index in range(rounds + 2):
        for name, run in (("eager", eager), ("file", lambda: file.predict([item]))):
            start = time.process_time()
            run()
            if index > 1:  # two rounds warm up: TorchScript compiles in its second
                times[name].append(time.process_time() - start)
    return statistics.median(times["eager"]), statistics.median(times["file"])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="+", choices=CONFIGS, default=list(CONFIGS))
    parser.add_argument("--forms", nargs="+", choices=FORMS, default=list(FORMS))
    parser.add_argument("--size", type=int, nargs=2, default=(320, 480), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    with tempfile.TemporaryDirectory() as folder:
        images = [read_image(path, "BGR") for path in photographs(Path(folder), 2, *args.size)]
        for name in args.models:
            model, graphs = model_of(name), dict[Any, Any]()
            for form in args.forms:
                to, _, precision = form.partition("-")
                options = ExportOptions(to, precision or "fp32", static=tuple(args.size))
                row: dict[str, Any] = {"model": name, "form": form, "size": list(args.size)}
                try:
                    made = export_model(model, Path(folder) / form, images, options=options, graphs=graphs)
                except (ImportError, RuntimeError) as error:
                    print(json.dumps({**row, "left out": str(error)[:300]}), flush=True)
                    continue
                eager, file = seconds(model, load_exported(made.path), images[0], args.rounds)
                row |= {"eager": eager, "file": file, "speedup": eager / file}
                print(
                    json.dumps({k: round(v, 3) if isinstance(v, float) else v for k, v in row.items()}),
                    flush=True,
                )


if __name__ == "__main__":
    main()
