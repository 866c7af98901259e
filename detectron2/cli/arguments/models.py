"""Arguments of the commands that use a model."""

import argparse

from .shared import (
    DATA_HELP,
    MODEL_HELP,
    augmentation,
    engine,
    examples,
    labels,
    overrides,
    running,
    tiles,
    trust,
)

__all__ = ["analyze_arguments", "export_arguments", "predict_arguments", "serve_arguments", "zoo_arguments"]


def predict_arguments(p: argparse.ArgumentParser) -> None:
    examples(
        p,
        "detectron2 predict runs/fruit photos/ --threshold 0.7 --output drawn",
        "detectron2 predict mask_rcnn_R_50_FPN_3x street.mp4 --track",
    )
    p.add_argument("model", help=f"{MODEL_HELP}, or an exported file")
    p.add_argument(
        "inputs",
        nargs="*",
        help="pictures, videos, folders, quoted patterns such as 'photos/**/*.jpg', URLs, camera:0 (default: the run's "
        "validation images)",
    )
    p.add_argument("--output", default="predictions", help="folder to write (default: %(default)s)")
    p.add_argument("--threshold", type=float, default=0.5, help="lowest score shown (default: %(default)s)")
    p.add_argument("--limit", type=int, help="largest number of inputs, and of frames per video")
    p.add_argument(
        "--shard",
        metavar="i/n",
        help="predict only the i-th of n parts of the inputs, i from 0, and write predictions-i-of-n.json",
    )
    p.add_argument("--classes", metavar="NAMES", help="names of the classes to keep, separated by commas")
    p.add_argument(
        "--track",
        nargs="?",
        const="BBoxIOUTracker",
        metavar="TRACKER",
        help="follow objects through videos: BBoxIOUTracker, VanillaHungarianBBoxIOUTracker, "
        "IOUWeightedHungarianBBoxIOUTracker, or trackers:NAME of the package trackers (default: %(const)s)",
    )
    running(p, batch_size=1)
    engine(p, "predict on Ray, and write predictions.jsonl, without drawings")
    p.add_argument(
        "--resume",
        action="store_true",
        help="with --engine ray: skip inputs that predictions.jsonl has already",
    )
    p.add_argument(
        "--fast",
        action="store_true",
        help="measure which way to run the model is the fastest on this CPU (minutes, once), and take it; results stay "
        "the same",
    )
    augmentation(p)
    tiles(p, "predict tiles of this side and merge them (default: as in the training; 0 = whole images)")
    trust(p)


def serve_arguments(p: argparse.ArgumentParser) -> None:
    examples(
        p,
        "detectron2 serve runs/fruit --port 8080",
        "detectron2 serve mask_rcnn_R_50_FPN_3x --threshold 0.5 --max-megapixels 12",
    )
    p.add_argument("model", help=f"{MODEL_HELP}, or an exported file")
    p.add_argument(
        "--host",
        default="127.0.0.1",
        help="address to listen at; 0.0.0.0 for every one (default: %(default)s)",
    )
    p.add_argument("--port", type=int, default=8000, help="0 takes any that is free (default: %(default)s)")
    p.add_argument(
        "--threshold",
        type=float,
        default=0.05,
        help="lowest score a request can ask for (default: %(default)s)",
    )
    running(p, batch_size=8)
    p.add_argument(
        "--batch-wait",
        type=float,
        default=5,
        metavar="MS",
        help="time to wait for a batch (default: %(default)s ms)",
    )
    p.add_argument(
        "--queue", type=int, default=256, help="requests at once; more get 429 (default: %(default)s)"
    )
    p.add_argument("--timeout", type=float, default=60, help="seconds for a request (default: %(default)s)")
    p.add_argument("--max-megabytes", type=float, default=20, help="of a request (default: %(default)s)")
    p.add_argument("--max-megapixels", type=float, default=50, help="of a picture (default: %(default)s)")
    trust(p)


def analyze_arguments(p: argparse.ArgumentParser) -> None:
    p.add_argument("model", help=MODEL_HELP)
    p.add_argument(
        "--image",
        metavar="FILE",
        help="run on this image (default: random values, in which a trained model finds little)",
    )
    p.add_argument(
        "--input-size",
        type=int,
        nargs=2,
        metavar=("H", "W"),
        help="pixels that enter the network (default: as the config resizes the image; 480 x 640 without one)",
    )
    p.add_argument(
        "--depth", type=int, default=2, help="deepest level of modules shown (default: %(default)s)"
    )
    p.add_argument(
        "--rounds",
        type=int,
        default=3,
        help="timed calls, of which the median is shown (default: %(default)s)",
    )
    p.add_argument(
        "--weights", help="best, final, or a file (default: the best of a run; random ones of a config)"
    )
    p.add_argument("--device", help="cpu, cuda, mps … (default: the best there is)")
    p.add_argument(
        "--output", help="folder for analysis.svg and analysis.json (default: RUN/analysis, or ./analysis)"
    )
    p.add_argument("--json", action="store_true", help="print JSON, and write files only into --output")
    overrides(p)
    examples(
        p,
        "detectron2 analyze mask_rcnn_R_50_FPN_3x --input-size 800 1333",
        "detectron2 analyze runs/nuclei --image nuclei/42.png --depth 3 --json",
    )


def export_arguments(p: argparse.ArgumentParser) -> None:
    p.add_argument("model", help=MODEL_HELP)
    p.add_argument(
        "inputs",
        nargs="*",
        metavar="PICTURE",
        help="images and folders to prove the file on (default: the validation images)",
    )
    p.add_argument(
        "--to", default="onnx", help="pt2, onnx, openvino, torchscript or aoti (default: %(default)s)"
    )
    p.add_argument(
        "--precision",
        default="fp32",
        help="fp32, fp16, bf16 or int8; all but fp32 also tell the AP before and after (default: %(default)s)",
    )
    p.add_argument(
        "--static",
        type=int,
        nargs=2,
        metavar=("H", "W"),
        help="fix height and width, in pixels; pictures are fitted into them (default: any size)",
    )
    p.add_argument(
        "--batch", type=int, metavar="N", help="fix the number of images that the file takes at once"
    )
    p.add_argument(
        "--sampling-ratio",
        type=int,
        metavar="N",
        help="samples of ROIAlign per bin in each direction, for runtimes that want a fixed number; also tells the AP "
        "before and after (default: as the model was trained)",
    )
    p.add_argument(
        "--max-ap-drop",
        type=float,
        default=2.0,
        metavar="POINTS",
        help="points of 100 that AP, PQ and mIoU of the file may lie below those of the model (default: %(default)s)",
    )
    p.add_argument("--data", metavar="DATA", help=f"{DATA_HELP} (default: the run's validation data)")
    labels(p)
    p.add_argument("--weights", help="best, final, or a file (default: best)")
    p.add_argument("--output", metavar="FILE", help="file to write (default: model.SUFFIX in the run)")
    p.add_argument("--limit", type=int, default=8, help="most pictures to prove it on (default: %(default)s)")
    trust(p)
    examples(
        p,
        "detectron2 export runs/nuclei --to onnx",
        "detectron2 export mask_rcnn_R_50_FPN_3x photos/ --to openvino --precision fp16",
    )


def zoo_arguments(p: argparse.ArgumentParser) -> None:
    examples(
        p,
        "detectron2 zoo mask --sort box_ap",
        "detectron2 zoo --trained --licence permissive",
    )
    p.add_argument("inputs", nargs="*", metavar="WORD", help="words in the config's path")
    p.add_argument(
        "--task", default="", help="detection, instance, keypoints, panoptic, semantic, proposals …"
    )
    p.add_argument("--trained", action="store_true", help="only those with published weights")
    p.add_argument("--all", action="store_true", help="also bases, common parts and test configs")
    p.add_argument(
        "--sort", default="name", help="name, box_ap, other_ap, train_seconds, infer_seconds, train_memory"
    )
    p.add_argument(
        "--licence",
        choices=["permissive", "commercial"],
        default="",
        help="only published weights whose code, weights and data are under MIT, BSD, Apache or CC BY (permissive), or also "
        "CC BY-SA (commercial)",
    )
    p.add_argument("--show", metavar="NAME", help="print this config, resolved")
    p.add_argument(
        "--form", choices=["yaml", "py", "source"], help="how to print it (default: in its own format)"
    )
    p.add_argument("--json", action="store_true", help="print the list as JSON")
