"""Apply a trained DensePose model to images: ``python -m detectron2.projects.densepose.apply_net --help``."""

import argparse
import glob
import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

from detectron2.config import CfgNode, get_cfg
from detectron2.data.detection_utils import read_image
from detectron2.engine import DefaultPredictor
from detectron2.structures import Instances
from detectron2.utils.logger import setup_logger

from .config import add_densepose_config
from .structures import DensePoseChartPredictorOutput, DensePoseEmbeddingPredictorOutput
from .utils.logger import verbosity_to_level
from .vis.base import CompoundVisualizer
from .vis.bounding_box import ScoredBoundingBoxVisualizer
from .vis.densepose_outputs_vertex import (
    DensePoseOutputsTextureVisualizer,
    DensePoseOutputsVertexVisualizer,
    get_texture_atlases,
)
from .vis.densepose_results import (
    DensePoseResultsContourVisualizer,
    DensePoseResultsFineSegmentationVisualizer,
    DensePoseResultsUVisualizer,
    DensePoseResultsVVisualizer,
)
from .vis.densepose_results_textures import DensePoseResultsVisualizerWithTexture, get_texture_atlas
from .vis.extractor import (
    CompoundExtractor,
    DensePoseOutputsExtractor,
    DensePoseResultExtractor,
    create_extractor,
)
from .vis.files import to_grey, write_numbered

__all__ = ["VISUALIZERS", "create_argument_parser", "main"]

logger = logging.getLogger("detectron2.projects.densepose.apply_net")

VISUALIZERS: dict[str, Callable[..., Any]] = {
    "dp_contour": DensePoseResultsContourVisualizer,
    "dp_segm": DensePoseResultsFineSegmentationVisualizer,
    "dp_u": DensePoseResultsUVisualizer,
    "dp_v": DensePoseResultsVVisualizer,
    "dp_iuv_texture": DensePoseResultsVisualizerWithTexture,
    "dp_cse_texture": DensePoseOutputsTextureVisualizer,
    "dp_vertex": DensePoseOutputsVertexVisualizer,
    "bbox": ScoredBoundingBoxVisualizer,
}
"""visualizations of ``show``"""


def create_argument_parser() -> argparse.ArgumentParser:
    """Build the command-line parser."""
    parser = argparse.ArgumentParser(
        prog="python -m detectron2.projects.densepose.apply_net",
        description="Apply a trained DensePose model to images.",
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    dump = _add_command(commands, "dump", "write the predictions to a file", _dump)
    _add_rest(dump, "results.pkl", "output file; read it with torch.load")
    show = _add_command(commands, "show", "draw the predictions on the images", _show)
    known = ", ".join(sorted(VISUALIZERS))
    show.add_argument("visualizations", help=f"what to draw, separated by commas: {known}")
    show.add_argument(
        "--min_score",
        type=float,
        default=0.8,
        metavar="SCORE",
        help="minimum score of a detection (%(default)s)",
    )
    show.add_argument(
        "--nms_thresh",
        type=float,
        default=None,
        metavar="IOU",
        help="IoU threshold of non-maximum suppression",
    )
    show.add_argument(
        "--texture_atlas", default=None, metavar="FILE", help="image of 24 charts, for dp_iuv_texture"
    )
    show.add_argument(
        "--texture_atlases_map", default=None, metavar="JSON", help="mesh names to images, for dp_cse_texture"
    )
    _add_rest(show, "outputres.png", "output images; a number is added before the extension")
    return parser


def _add_command(commands: Any, name: str, text: str, function: Callable[..., None]) -> Any:
    command = commands.add_parser(name, help=text, description=text)
    command.add_argument("-v", "--verbosity", action="count", help="-v for info, -vv for debug messages")
    command.add_argument("cfg", help="config file")
    command.add_argument("model", help="checkpoint, path or URL")
    command.add_argument("input", help="image, folder of images or pattern such as 'images/*.jpg'")
    command.set_defaults(func=function)
    return command


def _add_rest(command: Any, output: str, text: str) -> None:
    command.add_argument("--output", default=output, metavar="FILE", help=f"{text} (%(default)s)")
    command.add_argument(
        "--opts",
        default=[],
        nargs=argparse.REMAINDER,
        help="config overrides, KEY VALUE pairs, at the end",
    )


def _config(args: argparse.Namespace, further: Sequence[Any] = ()) -> CfgNode:
    cfg = get_cfg()
    add_densepose_config(cfg)
    cfg.merge_from_file(args.cfg)
    cfg.merge_from_list([*args.opts, *further])
    cfg.MODEL.WEIGHTS = args.model
    cfg.freeze()
    return cfg


def _input_files(given: str) -> list[str]:
    """Return the files that ``input`` names.

    Raises:
        FileNotFoundError: there are none.
    """
    if os.path.isdir(given):
        paths = [os.path.join(given, name) for name in sorted(os.listdir(given))]
    else:
        paths = [given] if os.path.isfile(given) else sorted(glob.glob(given))
    files = [path for path in paths if os.path.isfile(path)]
    if not files:
        raise FileNotFoundError(
            f"no images: {given!r} is neither a file nor a folder with files nor a pattern that matches files"
        )
    return files


def _predictions(cfg: CfgNode, given: str) -> Iterator[tuple[str, Any, Instances]]:
    """Yield path, BGR image (H, W, 3) and detections of each image."""
    files = _input_files(given)
    logger.info("Loading the model from %s", cfg.MODEL.WEIGHTS)
    predictor = DefaultPredictor(cfg)
    for path in files:
        image = read_image(path, format="BGR")
        logger.info("Processing %s", path)
        yield path, image, predictor(image)["instances"]


def _dump(args: argparse.Namespace) -> None:
    """Write the predictions of all images to a file, as a list of dicts."""
    results = []
    for path, _, instances in _predictions(_config(args), args.input):
        instances = instances.to(torch.device("cpu"))
        result: dict[str, Any] = {"file_name": path}
        if instances.has("scores"):
            result["scores"] = instances.scores
        if instances.has("pred_boxes"):
            result["pred_boxes_XYXY"] = instances.pred_boxes.tensor
            if instances.has("pred_densepose"):
                result["pred_densepose"] = _densepose_of(instances)
        results.append(result)
    os.makedirs(os.path.dirname(args.output) or ".", exist_ok=True)
    torch.save(results, args.output)
    logger.info("Wrote the predictions on %d images to %s", len(results), args.output)


def _densepose_of(instances: Instances) -> Any:
    output = instances.pred_densepose
    if isinstance(output, DensePoseChartPredictorOutput):
        return DensePoseResultExtractor()(instances)[0]
    if isinstance(output, DensePoseEmbeddingPredictorOutput):
        return DensePoseOutputsExtractor()(instances)[0]
    raise TypeError(f"expected predicted charts or surface embeddings, got {type(output).__name__}")


def _show(args: argparse.Namespace) -> None:
    """Draw the predictions of each image and write the result."""
    further: list[Any] = ["MODEL.ROI_HEADS.SCORE_THRESH_TEST", args.min_score]
    if args.nms_thresh is not None:
        further += ["MODEL.ROI_HEADS.NMS_THRESH_TEST", args.nms_thresh]
    cfg = _config(args, further)
    visualizer = _visualizer(args, cfg)
    extractor = CompoundExtractor([create_extractor(v) for v in visualizer.visualizers])  # type: ignore[misc]
    for number, (_, image, instances) in enumerate(_predictions(cfg, args.input), start=1):
        picture = visualizer.visualize(to_grey(image), extractor(instances))
        logger.info("Wrote %s", write_numbered(picture, args.output, number))


def _visualizer(args: argparse.Namespace, cfg: CfgNode) -> CompoundVisualizer:
    names = args.visualizations.split(",")
    unknown = sorted(set(names) - set(VISUALIZERS))
    if unknown:
        raise ValueError(f"unknown visualizations {unknown}; available are {', '.join(sorted(VISUALIZERS))}")
    for name, option in (("dp_iuv_texture", "texture_atlas"), ("dp_cse_texture", "texture_atlases_map")):
        if name in names and getattr(args, option) is None:
            raise ValueError(f"{name} needs --{option}")
    options = {
        "cfg": cfg,
        "texture_atlas": get_texture_atlas(args.texture_atlas),
        "texture_atlases_dict": get_texture_atlases(args.texture_atlases_map),
    }
    # Contours pass further arguments to Matplotlib, so they get none.
    return CompoundVisualizer([VISUALIZERS[n](**({} if n == "dp_contour" else options)) for n in names])


def main(argv: Sequence[str] | None = None) -> None:
    """Run the program.

    Args:
        argv: command-line arguments; None = those of the process.
    """
    args = create_argument_parser().parse_args(argv)
    setup_logger(name="detectron2").setLevel(verbosity_to_level(args.verbosity))
    try:
        args.func(args)
    except (FileNotFoundError, ValueError) as reason:
        sys.exit(f"apply_net: {reason}")


if __name__ == "__main__":
    main()
