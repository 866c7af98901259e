#!/usr/bin/env python
"""Shows a model's predictions on pictures, a video or a camera.

    demo.py --config-file configs/COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_3x.yaml \\
        --input a.jpg b.jpg --output folder --opts MODEL.WEIGHTS model_final.pkl

Takes yaml and Python configs. Without `--output` a window shows the result (needs an OpenCV with
windows; Esc closes it).
"""

from __future__ import annotations

import argparse
import glob
import os
import tempfile
import time
from typing import Any

from predictor import VisualizationDemo
from rich.progress import track

from detectron2.config import get_cfg
from detectron2.config.lazy import LazyConfig
from detectron2.data.detection_utils import read_image
from detectron2.utils.file_io.names import distinct_names
from detectron2.utils.image_io import READ_ERRORS
from detectron2.utils.logger import setup_logger

WINDOW = "detections"


def setup_cfg(args: argparse.Namespace) -> Any:
    """The config with the score threshold put into every head that has one."""
    if args.config_file.endswith(".py"):
        return LazyConfig.apply_overrides(LazyConfig.load(args.config_file), args.opts)
    cfg = get_cfg()
    cfg.merge_from_file(args.config_file)
    cfg.merge_from_list(args.opts)
    cfg.MODEL.RETINANET.SCORE_THRESH_TEST = args.confidence_threshold
    cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = args.confidence_threshold
    cfg.MODEL.PANOPTIC_FPN.COMBINE.INSTANCES_CONFIDENCE_THRESH = args.confidence_threshold
    cfg.freeze()
    return cfg


def get_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description="Predictions on pictures, videos or a camera")
    parser.add_argument("--config-file", required=True, metavar="FILE", help="config: .yaml or .py")
    parser.add_argument("--webcam", action="store_true", help="take the camera's pictures")
    parser.add_argument("--video-input", help="a video file")
    parser.add_argument("--input", nargs="+", help="picture files, or one pattern such as 'folder/*.jpg'")
    parser.add_argument("--output", help="a file or folder to write to; a window shows the result otherwise")
    parser.add_argument(
        "--confidence-threshold", type=float, default=0.5, help="lowest score of what is shown, 0 to 1"
    )
    parser.add_argument("--parallel", action="store_true", help="for videos: predict in other processes")
    parser.add_argument(
        "--opts",
        default=[],
        nargs=argparse.REMAINDER,
        help="settings to change: 'KEY VALUE' pairs for yaml, 'path.key=value' for Python configs",
    )
    return parser


def _need_cv2() -> Any:
    try:
        import cv2
    except ImportError as error:
        raise SystemExit(f"this needs OpenCV: pip install 'detectron2[viz]' ({error})") from error
    return cv2


def _summary(predictions: dict[str, Any]) -> str:
    if "instances" in predictions:
        return f"{len(predictions['instances'])} instances"
    return ", ".join(predictions)


def run_on_pictures(demo: VisualizationDemo, args: argparse.Namespace, logger: Any) -> None:
    """Files in, files or a window out."""
    paths = args.input
    if len(paths) == 1 and not os.path.exists(os.path.expanduser(paths[0])):
        paths = sorted(glob.glob(os.path.expanduser(paths[0])))
        if not paths:
            raise SystemExit(f"no file is called, or matches, {args.input[0]}")
    if args.output and len(paths) > 1 and not os.path.isdir(args.output):
        os.makedirs(args.output)
    skipped = 0
    for path, name in zip(paths, distinct_names(paths)):
        try:
            image = read_image(path, format="BGR")
        except (*READ_ERRORS, ValueError) as error:
            logger.warning("Skipped, since it cannot be read: %s (%s)", path, error)
            skipped += 1
            continue
        start = time.perf_counter()
        predictions, drawing = demo.run_on_image(image)
        logger.info("%s: %s in %.2f s", path, _summary(predictions), time.perf_counter() - start)
        if args.output:
            folder = os.path.isdir(args.output)
            drawing.save(os.path.join(args.output, name) if folder else args.output)
        else:
            cv2 = _need_cv2()
            cv2.namedWindow(WINDOW, cv2.WINDOW_NORMAL)
            cv2.imshow(WINDOW, drawing.get_image()[:, :, ::-1])
            if cv2.waitKey(0) == 27:
                break
    if skipped == len(paths):
        raise SystemExit("no picture could be read")


def run_on_camera(demo: VisualizationDemo) -> None:
    """The first camera in a window until Esc."""
    cv2 = _need_cv2()
    camera = cv2.VideoCapture(0)
    for frame in demo.run_on_video(camera):
        cv2.namedWindow(WINDOW, cv2.WINDOW_NORMAL)
        cv2.imshow(WINDOW, frame)
        if cv2.waitKey(1) == 27:
            break
    camera.release()
    cv2.destroyAllWindows()


def _working_codec(cv2: Any) -> tuple[str, str]:
    """A codec that this OpenCV can write, and its file ending: builds differ."""
    with tempfile.TemporaryDirectory() as folder:
        for codec, ending in (("mp4v", ".mp4"), ("x264", ".mkv"), ("MJPG", ".avi")):
            path = os.path.join(folder, "probe" + ending)
            writer = cv2.VideoWriter(path, cv2.VideoWriter_fourcc(*codec), 10.0, (64, 64))
            usable = writer.isOpened()
            writer.release()
            if usable:
                return codec, ending
    raise SystemExit("this OpenCV can write no video format that we know (mp4v, x264, MJPG)")


def run_on_video(demo: VisualizationDemo, args: argparse.Namespace) -> None:
    """A video file in, a video file or a window out."""
    cv2 = _need_cv2()
    if not os.path.isfile(args.video_input):
        raise SystemExit(f"there is no video file {args.video_input}")
    video = cv2.VideoCapture(args.video_input)
    if not video.isOpened():
        raise SystemExit(f"{args.video_input} is no video that this OpenCV can read")
    size = (int(video.get(cv2.CAP_PROP_FRAME_WIDTH)), int(video.get(cv2.CAP_PROP_FRAME_HEIGHT)))
    count = int(video.get(cv2.CAP_PROP_FRAME_COUNT))
    writer = None
    if args.output:
        codec, ending = _working_codec(cv2)
        target = args.output
        if os.path.isdir(target):
            stem = os.path.splitext(os.path.basename(args.video_input))[0]
            target = os.path.join(target, stem + ending)
        if os.path.exists(target):
            raise SystemExit(f"{target} exists already; remove it or choose another --output")
        fps = video.get(cv2.CAP_PROP_FPS) or 25.0
        os.makedirs(os.path.dirname(target) or ".", exist_ok=True)
        writer = cv2.VideoWriter(target, cv2.VideoWriter_fourcc(*codec), fps, size)
        if not writer.isOpened():
            raise SystemExit(
                f"cannot write the video {target}; {ending} is an ending that this OpenCV can write"
            )
    for frame in track(demo.run_on_video(video), total=count, description="frames"):
        if writer is not None:
            writer.write(frame)
            continue
        cv2.namedWindow(WINDOW, cv2.WINDOW_NORMAL)
        cv2.imshow(WINDOW, frame)
        if cv2.waitKey(1) == 27:
            break
    video.release()
    if writer is not None:
        writer.release()
    else:
        cv2.destroyAllWindows()


def main() -> None:
    """Reads the command line and runs."""
    args = get_parser().parse_args()
    logger = setup_logger(name="demo")
    chosen = [name for name in ("input", "webcam", "video_input") if getattr(args, name)]
    if len(chosen) != 1:
        raise SystemExit("give exactly one of --input, --webcam and --video-input")
    demo = VisualizationDemo(setup_cfg(args), parallel=args.parallel, threshold=args.confidence_threshold)
    if args.input:
        run_on_pictures(demo, args, logger)
    elif args.webcam:
        run_on_camera(demo)
    else:
        run_on_video(demo, args)


if __name__ == "__main__":
    main()
