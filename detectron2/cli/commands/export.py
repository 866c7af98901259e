"""``detectron2 export``: a model as a file of another form, written only if it gives what the model gives."""

import argparse
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from detectron2.checkpoint.load_report import require_weights
from detectron2.data import DatasetCatalog
from detectron2.data.detection_utils import read_image
from detectron2.data.formats import plan_validation
from detectron2.engine import DefaultPredictor, DefaultTrainer
from detectron2.engine.run_config import run_config
from detectron2.engine.run_folder import DataCard, RunCard, read_run
from detectron2.evaluation import inference_on_dataset
from detectron2.evaluation.build import evaluator_for
from detectron2.export import ExportedModel, ExportOptions, export_model, with_sampling_ratio
from detectron2.export.metadata import describe_classes, describe_resize
from detectron2.prediction.models import ModelChoice, choose_model
from detectron2.utils.errors import UserError
from detectron2.utils.image_io import IMAGE_SUFFIXES
from detectron2.utils.logger import setup_logger
from detectron2.utils.suggest import not_there

from ..run.datasets import VAL, register, store
from ..run.evaluation import summarise
from ..run.exported import picture_loader, whole_pictures
from ..run.plan import say_plan, source_of

__all__ = ["run"]


def run(args: argparse.Namespace) -> int:
    """Export, prove, and print the table of agreement."""
    setup_logger(name="detectron2")
    static = tuple(args.static) if args.static else None
    options = ExportOptions(args.to, args.precision, static, args.batch)
    options.format()  # refuses before the long work
    choice = choose_model(args.model, args.weights, "cpu")
    predictor = DefaultPredictor(choice.cfg)
    require_weights(predictor.load_report, choice.name)
    ratio = args.sampling_ratio
    model = predictor.model if ratio is None else with_sampling_ratio(predictor.model, ratio)
    about = {
        **describe_classes(choice.metadata),
        **describe_resize(predictor.aug),
        "model": choice.name,
        "input_format": predictor.input_format,
        "sampling_ratio": ratio,
    }
    with tempfile.TemporaryDirectory() as folder:
        labelled = _register_data(args, choice, Path(folder))
        paths = _pictures(args, labelled)
        changed = args.precision != "fp32" or ratio is not None
        judge = _judge(choice, predictor) if labelled and changed else None
        agreement = export_model(
            model,
            args.output or _default_output(args),
            [_read(path, predictor.input_format) for path in paths],
            options=options,
            metadata=about,
            names=[path.name for path in paths],
            judge=judge,
            max_ap_drop=args.max_ap_drop,
        )
    print(agreement.table())
    print(f"{agreement.path} agrees with the model; this table is in {agreement.path}.agreement.md")
    return 0


def _default_output(args: argparse.Namespace) -> Path:
    run = Path(args.model)
    folder = run if run.is_dir() else Path()
    name = "model" if run.is_dir() else run.stem
    return folder / (name if args.precision == "fp32" else f"{name}-{args.precision}")


def _register_data(args: argparse.Namespace, choice: ModelChoice, folder: Path) -> bool:
    """Register the validation data that are named, or those of the run; say whether there are any."""
    is_run = (Path(args.model) / "run.json").is_file()
    if not args.data:
        if is_run:
            register(read_run(args.model), train=False)
        return is_run
    card = read_run(args.model) if is_run else _card(choice)
    plan = plan_validation(source_of(args, args.data, args.images), card.classes, card.category_ids)
    say_plan(plan)
    card.val = store(plan.parts["val"], "val", folder)
    register(card, train=False)
    return True


def _card(choice: ModelChoice) -> RunCard:
    about = describe_classes(choice.metadata)
    if not about["classes"]:
        raise UserError(
            f"{choice.name} names no classes, so that labels cannot be told apart; name pictures instead"
        )
    nothing = DataCard("", "")
    return RunCard(choice.name, about["classes"], about["category_ids"], nothing, nothing)


def _pictures(args: argparse.Namespace, labelled: bool) -> list[Path]:
    """Return the pictures to try: those named, else some of the validation data."""
    found: list[Path] = []
    for text in args.inputs:
        path = Path(text)
        if not path.exists():
            raise UserError(not_there(path))
        inside = (
            sorted(p for p in path.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES)
            if path.is_dir()
            else [path]
        )
        found += inside
    if not args.inputs and labelled:
        found = [Path(record["file_name"]) for record in DatasetCatalog.get(VAL)]
    if not found:
        raise UserError(
            "an export is proved on pictures: name some, or labels with --data; best those that the model is made for"
        )
    step = max(len(found) // args.limit, 1)
    return found[::step][: args.limit]


def _read(path: Path, input_format: str) -> np.ndarray:
    return np.asarray(read_image(str(path), input_format))


def _judge(
    choice: ModelChoice, predictor: DefaultPredictor
) -> Callable[[ExportedModel | None], Mapping[str, Any]]:
    """Return what evaluates the model, or a file, on the registered validation data."""
    sigmas = tuple(run_config(choice.cfg).get("TEST.KEYPOINT_OKS_SIGMAS", ()))

    def judge(exported: ExportedModel | None) -> Mapping[str, Any]:
        evaluator = evaluator_for(VAL, None, kpt_oks_sigmas=sigmas)
        if exported is None:
            loader = DefaultTrainer.build_test_loader(choice.cfg, VAL)
            return summarise(inference_on_dataset(predictor.model, loader, evaluator))
        return summarise(inference_on_dataset(whole_pictures(exported), picture_loader(exported), evaluator))

    return judge
