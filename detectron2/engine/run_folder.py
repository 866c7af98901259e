"""The card of a training run, and the weights in its folder."""

import json
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from detectron2.data.formats.pixels import PixelTask
from detectron2.utils.errors import UserError
from detectron2.utils.file_io.atomic import write_json
from detectron2.utils.suggest import not_there

__all__ = ["DataCard", "RunCard", "read_run", "weights_of"]


@dataclass
class DataCard:
    """Where data are: json file and image folder, and their size.

    ``labels`` is the number of labels of each class, in the order of the run's classes; ``pixels`` is what the names of
    files that belong to label maps begin with.
    """

    json: str
    images: str
    num_images: int = 0
    num_instances: int = 0
    labels: list[int] = field(default_factory=list)
    pixels: str = ""

    def within(self, folder: Path) -> "DataCard":
        """As it is written: paths in the run's folder count from there, so that it can be moved; others are absolute."""
        root = folder.resolve()
        whole = [Path(p).resolve() for p in (self.json, self.images, self.pixels or ".")]
        json_file, images, pixels = (str(p.relative_to(root) if p.is_relative_to(root) else p) for p in whole)
        return replace(self, json=json_file, images=images, pixels=pixels if self.pixels else "")

    def seen_from(self, folder: Path) -> "DataCard":
        """Return the inverse of :meth:`within`: paths that can be opened from the working directory."""
        pixels = str(folder / self.pixels) if self.pixels else ""
        return replace(self, json=str(folder / self.json), images=str(folder / self.images), pixels=pixels)


@dataclass
class RunCard:
    """Everything that another command needs to go on with a run.

    Attributes:
        model: zoo name or config file that the run was asked for.
        classes: names, in the order of the model's class indices.
        category_ids: the json's category id of each class.
        train: training data.
        val: validation data.
        weights: what the run started from.
        seed: seed of the run.
        health: text of the data check.
        keypoint_names: names of the keypoints, in the order of the labels.
        keypoint_flips: pairs of keypoints that change places in a mirrored picture.
        rotated: the model predicts rotated boxes.
        pixels: the task of label maps; see ``PixelTask``.
        tiles: how images are cut into tiles, of a run that learned from tiles; see ``TileOptions.as_dict``.
        val_tiles: the tiles of the validation data, which validate while a model is trained on tiles.
        max_detections: objects of an image that count in an evaluation; None for COCO's 100.
        versions: package versions.
        command: the words of the command line.
    """

    model: str
    classes: list[str]
    category_ids: list[int]
    train: DataCard
    val: DataCard
    weights: str = ""
    seed: int = 0
    health: str = ""
    keypoint_names: list[str] = field(default_factory=list)
    keypoint_flips: list[list[str]] = field(default_factory=list)
    rotated: bool = False
    pixels: dict[str, Any] | None = None
    tiles: dict[str, Any] | None = None
    val_tiles: DataCard | None = None
    max_detections: int | None = None
    versions: dict[str, str] = field(default_factory=dict)
    command: list[str] = field(default_factory=list)

    @property
    def pixel_task(self) -> PixelTask | None:
        """The task of label maps; None for boxes, masks and keypoints."""
        return None if self.pixels is None else PixelTask(**self.pixels)

    def metadata(self) -> dict[str, Any]:
        """Return what the catalog of metadata holds of a run's classes and keypoints."""
        if self.pixel_task is not None:
            return self.pixel_task.metadata()
        found: dict[str, Any] = {
            "thing_classes": self.classes,
            "thing_dataset_id_to_contiguous_id": {c: i for i, c in enumerate(self.category_ids)},
            "evaluator_type": "rotated_coco" if self.rotated else "coco",
        }
        if self.max_detections is not None:
            found["max_dets_per_image"] = self.max_detections
        if self.keypoint_names:
            found["keypoint_names"] = self.keypoint_names
            found["keypoint_flip_map"] = [tuple(pair) for pair in self.keypoint_flips]
        return found

    def save(self, folder: Path) -> None:
        """Write ``run.json`` in ``folder``."""
        val_tiles = None if self.val_tiles is None else self.val_tiles.within(folder)
        card = replace(
            self, train=self.train.within(folder), val=self.val.within(folder), val_tiles=val_tiles
        )
        write_json(folder / "run.json", asdict(card))


def read_run(folder: str | Path) -> RunCard:
    """Read the card of a run.

    Raises:
        UserError: ``folder`` is not the folder of a run.
    """
    folder = Path(folder)
    path = folder / "run.json"
    if not folder.exists():
        raise UserError(f"{not_there(folder)}; expected the folder of a run, as `detectron2 train` writes it")
    if not path.is_file():
        raise UserError(
            f"{folder} is not the folder of a run: it has no run.json. `detectron2 train` writes such folders."
        )
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        known = {f.name for f in fields(RunCard)}
        data = {k: v for k, v in data.items() if k in known}
        sizes = {f.name for f in fields(DataCard)}
        names = [name for name in ("train", "val", "val_tiles") if data.get(name) or name != "val_tiles"]
        cards = {name: {k: v for k, v in data[name].items() if k in sizes} for name in names}
        parts = {name: DataCard(**card).seen_from(folder) for name, card in cards.items()}
        return RunCard(**{**data, **parts})
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path} is damaged ({error}); run `detectron2 train … --resume` to write it again"
        ) from error


def weights_of(folder: str | Path, which: str) -> str:
    """Return the path of a run's weights.

    Args:
        folder: the run's folder.
        which: "best" (or the last ones when no best was kept), "final", or a path.

    Raises:
        UserError: there are none.
    """
    folder = Path(folder)
    names = {"best": ("model_best.pth", "model_final.pth"), "final": ("model_final.pth",)}.get(which)
    if names is None:
        if not Path(which).is_file():
            raise UserError(f"{not_there(which)}; --weights takes best, final, or the path of a file")
        return which
    for name in names:
        if (folder / name).is_file():
            return str(folder / name)
    raise UserError(
        f"{folder} holds no {' or '.join(names)}: the run has not finished. Go on with `detectron2 train --resume`."
    )
