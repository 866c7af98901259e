"""From what a user calls a model to a config with weights and the names of its classes."""

import logging
import os
from dataclasses import dataclass
from pathlib import Path

from detectron2.config.types import Config
from detectron2.data import Metadata, MetadataCatalog
from detectron2.engine.run_config import RunConfig, load_run_config, run_config
from detectron2.engine.run_folder import read_run, weights_of
from detectron2.export import is_exported
from detectron2.model_zoo import get_checkpoint_url
from detectron2.model_zoo.listing import find_model
from detectron2.utils.device import best_device, check_device
from detectron2.utils.errors import UserError

__all__ = ["ModelChoice", "ModelName", "choose_model"]

logger = logging.getLogger(__name__)

ModelName = str | os.PathLike[str] | Config
BEST = "best"
FINAL = "final"


@dataclass(frozen=True)
class ModelChoice:
    """A model that can be built.

    Attributes:
        cfg: config of either kind, with weights and device; a copy.
        metadata: names and colours of the classes.
        name: what the user calls the model.
    """

    cfg: Config
    metadata: Metadata
    name: str


def choose_model(model: ModelName, weights: str | None = None, device: str | None = None) -> ModelChoice:
    """Find the config, weights and classes that a user means.

    Args:
        model: folder of a run, name in the model zoo, config file, or config of either kind.
        weights: "best" or "final" of a run; a file or URL; None for the best weights of a run, the published ones of a
            zoo name, or those that the config names.
        device: device name; None for the best there is, or the one that a given config object names.

    Raises:
        UserError: if there is no such model, or no weights for it.
        DeviceError: if this machine lacks the device.
    """
    if not isinstance(model, (str, os.PathLike)):
        run = run_config(model).copied()
        with run.thawed():
            run.put(**_given(weights=weights, device=device))
        check_device(run.options.device, "the device of the config")
        return ModelChoice(run.cfg, _catalog_metadata(run), "the config")
    name = os.fspath(model)
    if is_exported(name):
        raise UserError(
            f"{name} is an exported file, which is fixed; give the run or config that it was made from"
        )
    chosen = str(check_device(device or best_device()))
    if (Path(name) / "run.json").is_file():
        return _of_run(name, weights or BEST, chosen)
    if Path(name).is_dir():
        raise UserError(f"{name} is not the folder of a run: it has no run.json")
    config_file, zoo_name = find_model(name)
    run = load_run_config(config_file)
    if weights not in (None, BEST, FINAL):
        run.put(weights=weights)
    elif zoo_name:
        run.put(weights=get_checkpoint_url(zoo_name))
    run.put(device=chosen)
    return ModelChoice(run.cfg, _catalog_metadata(run), name)


def _of_run(folder: str, weights: str, device: str) -> ModelChoice:
    """Read a run without registering its data sets, whose names a program may use for its own."""
    card = read_run(folder)
    run = load_run_config(Path(folder) / "config.yaml")
    run.put(weights=weights_of(folder, weights), device=device)
    metadata = Metadata(name=f"{folder}: val").set(**card.metadata())
    if card.pixel_task is not None:  # models look up which classes are things, by the name of their data set
        name = f"{os.path.abspath(folder)}: train"
        if name in MetadataCatalog.list():
            MetadataCatalog.remove(name)
        MetadataCatalog.get(name).set(**card.metadata())
        run.set("DATASETS.TRAIN", (name,))
    return ModelChoice(run.cfg, metadata, folder)


def _catalog_metadata(run: RunConfig) -> Metadata:
    return MetadataCatalog.get((*run.dataset_names("test"), "__unused")[0])


def _given(**options: str | None) -> dict[str, str]:
    return {name: value for name, value in options.items() if value is not None}
