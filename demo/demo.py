#!/usr/bin/env python
"""Shows a model's predictions on pictures, a video or a camera.

    demo.py --config-file configs/COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_3x.yaml \\
        --input a.jpg b.jpg --output folder --opts MODEL.WEIGHTS model_final.pkl

Takes yaml and Python configs. Videos are read and written by PyAV (`pip install 'detectron2[video]'`); they keep
their time stamps and sound. Without `--output` a window shows the result (needs an OpenCV with windows; Esc closes it).
"""

from __future__ import annotations

import argparse
import glob
import os
import tempfile
import time
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

from PIL import Image
from predictor import VisualizationDemo
from rich.progress import track

from detectron2.config import get_cfg
from detectron2.config.lazy import LazyConfig
from detectron2.data.detection_utils import read_image
from detectron2.prediction.video import Pictures, frame_count, frame_rate, read_camera, read_video
from detectron2.prediction.video_writer import VideoWriter, check_can_write, video_ending
from detectron2.utils.errors import UserError
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
        "--confidence-threshold", type=_score, default=0.5, help="lowest score of what is shown, 0 to 1"
    )
    parser.add_argument("--parallel", action="store_true", help="for videos: predict in other processes")
    parser.add_argument(
        "--opts",
        default=[],
        nargs=argparse.REMAINDER,
        help="settings to change: 'KEY VALUE' pairs for yaml, 'path.key=value' for Python configs",
    )
    return parser


def _score(text: str) -> float:
    score = float(text)
    if not 0 <= score <= 1:
        raise argparse.ArgumentTypeError(f"a score lies between 0 and 1, got {text}")
    return score


def _open_window() -> None:
    """Opens the window, before anything is computed."""
    try:
        import cv2

        cv2.namedWindow(WINDOW, cv2.WINDOW_NORMAL)
    except ImportError as error:
        raise SystemExit(f"a window needs OpenCV: pip install 'detectron2[viz]' ({error})") from error
    except cv2.error as error:
        raise SystemExit(f"OpenCV cannot open a window here: give --output ({error.err})") from error


def _summary(predictions: dict[str, Any]) -> str:
    if "instances" in predictions:
        return f"{len(predictions['instances'])} instances"
    return ", ".join(predictions)


def _paths(args: argparse.Namespace) -> list[str]:
    """The picture files that are named, or that match the one pattern that is given."""
    paths: list[str] = args.input
    if len(paths) == 1 and not os.path.exists(os.path.expanduser(paths[0])):
        paths = sorted(glob.glob(os.path.expanduser(paths[0])))
        if not paths:
            raise SystemExit(f"no file is called, or matches, {args.input[0]}")
    return paths


def _check_picture_output(output: str, count: int) -> None:
    """Sees that pictures can be written there, before anything is computed."""
    try:
        if count > 1 or os.path.isdir(output):
            os.makedirs(output, exist_ok=True)
            folder = output
        else:
            folder = os.path.dirname(output) or "."
            os.makedirs(folder, exist_ok=True)
            if not _can_be_saved(output):
                raise SystemExit(
                    f"{output} must have the ending of a picture, or be the name of a folder that exists"
                )
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise SystemExit(f"--output {output} cannot be written: {error}") from error


def run_on_pictures(demo: VisualizationDemo, paths: list[str], args: argparse.Namespace, logger: Any) -> None:
    """Files in, files or a window out."""
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
            target = os.path.join(args.output, _drawn_name(name)) if folder else args.output
            drawing.save(target)
        elif _show(drawing.get_image()[:, :, ::-1], wait=0):
            break
    if skipped == len(paths):
        raise SystemExit("no picture could be read")


def _drawn_name(name: str) -> str:
    """The name of a drawing: that of the picture, as PNG where that is of a kind that cannot be written."""
    stem, _ = os.path.splitext(name)
    return name if _can_be_saved(name) else stem + ".png"


def _can_be_saved(name: str) -> bool:
    """Whether pictures with the ending of a name can be written."""
    kind = Image.registered_extensions().get(os.path.splitext(name)[1].lower())
    return kind in Image.SAVE


def _show(bgr: Any, wait: int) -> bool:
    """Shows a picture in a window; returns whether Esc was pressed."""
    import cv2

    cv2.imshow(WINDOW, bgr)
    return bool(cv2.waitKey(wait) == 27)


def _video_target(source: str, output: str | None) -> str | None:
    """The video to write, if it can be written; checked before anything is computed."""
    if not output:
        return None
    if os.path.isdir(output):
        stem = os.path.splitext(os.path.basename(source))[0]
        output = os.path.join(output, stem + video_ending(source))
    if os.path.exists(output):
        raise SystemExit(f"{output} exists already; remove it or choose another --output")
    check_can_write(output)
    return output


def run_on_frames(demo: VisualizationDemo, pictures: Pictures, target: str | None, source: str | None) -> int:
    """Frames in, a video file or a window out; returns their number.

    Args:
        demo: predicts and draws.
        pictures: of a video or camera, as they are read.
        target: video to write; None for a window, which Esc closes.
        source: the video whose sound and rate are kept; None for a camera.
    """
    times: deque[float] = deque()

    def frames() -> Iterator[Any]:
        for _, seconds, rgb in pictures:
            times.append(seconds)
            yield rgb[:, :, ::-1]

    rate = None if source is None else frame_rate(source)
    count = 0
    with ExitStack() as stack:
        writer = stack.enter_context(VideoWriter(target, sound_of=source, rate=rate)) if target else None
        total = None if source is None else frame_count(source)
        for drawn in track(demo.run_on_video(frames()), total=total, description="frames"):
            count += 1
            seconds = times.popleft()
            if writer is not None:
                writer.write(drawn[:, :, ::-1], seconds)
            elif _show(drawn, wait=1):
                break
    pictures.close()
    return count


def run_on_video(demo: VisualizationDemo, source: str, target: str | None, logger: Any) -> None:
    """A video file in, a video file or a window out."""
    broken: list[int] = []

    def report(number: int, error: Exception) -> None:
        broken.append(number)
        if len(broken) <= 5:
            logger.warning("Frame %d cannot be decoded: %s", number, error)

    try:
        count = run_on_frames(demo, read_video(source, report), target, source)
    except ValueError as error:
        raise SystemExit(str(error)) from error
    if not count:
        raise SystemExit(f"no frame of {source} could be read")
    logger.info("%d frames, %d broken", count, len(broken))


def main() -> None:
    """Reads the command line and runs."""
    args = get_parser().parse_args()
    logger = setup_logger(name="demo")
    chosen = [name for name in ("input", "webcam", "video_input") if getattr(args, name)]
    if len(chosen) != 1:
        raise SystemExit("give exactly one of --input, --webcam and --video-input")
    if args.input:
        paths = _paths(args)
        if args.output:
            _check_picture_output(args.output, len(paths))
        else:
            _open_window()
        run_on_pictures(_demo(args), paths, args, logger)
        return
    try:
        if args.video_input and not os.path.isfile(args.video_input):
            raise SystemExit(f"there is no video file {args.video_input}")
        target = _video_target(args.video_input or "camera", args.output)
        if target is None:
            _open_window()
        if args.webcam:
            if not run_on_frames(_demo(args), read_camera(0), target, None):
                raise SystemExit("the camera gave no picture")
        else:
            frame_count(args.video_input)  # it can be opened
            run_on_video(_demo(args), args.video_input, target, logger)
    except (UserError, ValueError) as error:
        raise SystemExit(str(error)) from error


def _demo(args: argparse.Namespace) -> VisualizationDemo:
    return VisualizationDemo(setup_cfg(args), parallel=args.parallel, threshold=args.confidence_threshold)


if __name__ == "__main__":
    main()
