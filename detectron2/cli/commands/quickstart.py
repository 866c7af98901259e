"""``detectron2 quickstart``: training, evaluation, report and a video, on pictures that come with the package."""

import argparse
import filecmp
import json
import shutil
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from detectron2.data.formats import Source, plan_training
from detectron2.engine.run_config import RunConfig
from detectron2.engine.run_folder import RunCard
from detectron2.prediction import Predictor
from detectron2.utils.file_io.lock import folder_lock
from detectron2.utils.file_io.text import read_json
from detectron2.utils.logger import setup_logger

from ..errors import UserError
from ..run.folder import fresh_folder
from ..run.progress import FewLines, calm_console
from ..run.recipe import Plan, chosen_device, recipe
from ..run.showcase import write_clip, write_sheet
from .train import make_card, open_run, save_run, train

__all__ = ["copy_fruit", "run"]

ASSETS = Path(__file__).parents[1] / "quickstart"
SHOWN = 6  # held-out pictures on the sheet
BLOCKS = "▏▎▍▌▋▊▉█"


def run(args: argparse.Namespace) -> int:
    """Copy the data, train, evaluate, write report, pictures and video, and print the results."""
    start = time.perf_counter()
    folder = Path(args.output)
    # The run is small enough for the CPU.
    device = chosen_device(args.device or "cpu")
    with ExitStack() as held:
        with fresh_folder(folder):
            held.enter_context(folder_lock(folder))
            card, config = open_run(args, folder) or _prepare(args, folder, device)
            setup_logger(str(folder))
        held.enter_context(calm_console())
        _say_plan(card, config)
        summary = train(config, card, folder, resume=args.resume, start=start, hooks=[FewLines()])
        _show(folder, str(config.options.device))
    _say_results(folder, summary, time.perf_counter() - start)
    return 0


def _prepare(args: argparse.Namespace, folder: Path, device: str) -> tuple[RunCard, RunConfig]:
    """Copy the data, and write card and config of the run."""
    parts = copy_fruit(folder / "data")
    data = plan_training(Source(str(parts["train"])), Source(str(parts["val"])))
    card = make_card(folder, "quickstart/mask_rcnn_fruit", data, args.seed)
    plan = Plan(len(card.classes), card.train.num_images, workers=0, device=device)
    config = recipe(str(ASSETS / "mask_rcnn_fruit.yaml"), plan)
    config.put(seed=args.seed, output_dir=str(folder))
    config.override(args.opts)
    save_run(folder, card, config)
    return card, config


def copy_fruit(folder: Path) -> dict[str, Path]:
    """Copy the built-in pictures and labels.

    Args:
        folder: gets ``train.json``, ``val.json``, ``images/`` and ``clip/``.

    Returns:
        The paths of the json files "train" and "val".

    Raises:
        UserError: if the folder has other files, which might be the user's.
    """
    fruit = ASSETS / "fruit"
    for path in sorted(folder.rglob("*")):
        ours = fruit / path.relative_to(folder)
        if not (ours.is_dir() and path.is_dir()) and not (
            ours.is_file() and filecmp.cmp(ours, path, shallow=False)
        ):
            raise UserError(
                f"{path} is not of the quickstart; name another --output, so that nothing is overwritten"
            )
    shutil.copytree(fruit, folder, dirs_exist_ok=True)
    return {part: folder / f"{part}.json" for part in ("train", "val")}


def _show(folder: Path, device: str) -> None:
    """Draw what the best weights find in the first held-out pictures, and in a video that no training has seen."""
    predictor = Predictor(str(folder), scores=0.5, device=device)
    images = read_json(folder / "data" / "val.json")["images"][:SHOWN]
    write_sheet(
        predictor, [folder / "data" / "images" / i["file_name"] for i in images], folder / "result.jpg"
    )
    write_clip(predictor, sorted((folder / "data" / "clip").glob("*.jpg")), folder / "result.webp")


def _say_plan(card: RunCard, config: RunConfig) -> None:
    print(
        "Fruit on a table, drawn for this package. A small Mask R-CNN learns to find it, from random weights."
    )
    print(f"  classes        {', '.join(card.classes)}")
    print(f"  training       {card.train.num_images} pictures with {card.train.num_instances} labels")
    print(f"  held out       {card.val.num_images} pictures with {card.val.num_instances} labels")
    print(
        f"  schedule       {config.options.max_iter} steps of {config.batch_size} pictures on {config.options.device}"
    )


def _say_results(folder: Path, summary: Mapping[str, Any], seconds: float) -> None:
    """Print the files, the results by class, the main figures, and what to do next."""
    print("Look at")
    print(f"  {folder / 'result.webp'}  the video; open it in a browser")
    print(f"  {folder / 'result.jpg'}   held-out pictures")
    print(f"  {folder / 'report.html'}  curves, classes, errors")
    print("Average precision of the masks in held-out pictures")
    results = json.loads((folder / "evaluation.json").read_text(encoding="utf-8"))["results"]
    for key, value in results["segm"].items():
        if key.startswith("AP-") and value is not None:
            print(f"  {key[3:]:<12} {value / 100:.3f} {_bar(value / 100)}")
    print(
        f"held-out box AP50 {summary['box_AP50']:.3f}, mask AP50 {summary['mask_AP50']:.3f}, "
        f"box AP {summary['box_AP']:.3f}, mask AP {summary['mask_AP']:.3f} after {seconds:.0f} s"
    )
    print("Next: find things in your pictures, train on your labels, export")
    print(f"  detectron2 predict {folder} YOUR_PICTURES --output found")
    print("  detectron2 train --train YOUR_LABELS --output runs/mine")
    print(f"  detectron2 export {folder} --to onnx")


def _bar(share: float, width: int = 24) -> str:
    """Return a bar of a share of ``width`` letters."""
    eighths = round(max(share, 0) * width * 8)
    return "█" * (eighths // 8) + (BLOCKS[eighths % 8 - 1] if eighths % 8 else "")
