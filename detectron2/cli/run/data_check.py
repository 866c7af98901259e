"""The data check before the first step."""

import json
from dataclasses import replace
from pathlib import Path

from detectron2.data.health import prepare_coco_json
from detectron2.utils.logger import setup_logger

from ..errors import UserError
from .datasets import classes_of
from .folder import DataCard

__all__ = ["check_data"]


def check_data(train: DataCard, val: DataCard | None, folder: Path) -> tuple[DataCard, DataCard | None, str]:
    """Check training and validation data.

    Args:
        train: training data.
        val: validation data, if there are any of their own.
        folder: gets a mended copy of each json with defects that can be left out.

    Returns:
        The data to use, and the report as text.

    Raises:
        DataError: data that cannot be trained on; names file, label and value.
        UserError: the two sets disagree about categories.
    """
    logger = setup_logger(name="detectron2")
    checked, texts = [], []
    for card in (train, val):
        if card is None:
            continue
        path, report = prepare_coco_json(card.json, card.images, folder)
        text = report.to_text()
        (logger.warning if report.findings else logger.info)("Data check: %s", text)
        texts.append(text)
        checked.append(_recount(card, path))
    if val is None:
        return checked[0], None, texts[0]
    _same_categories(checked[0], checked[1])
    return checked[0], checked[1], "\n\n".join(texts)


def _recount(card: DataCard, path: str) -> DataCard:
    if path == card.json:
        return card
    content = json.loads(Path(path).read_bytes())
    return replace(
        card, json=path, num_images=len(content["images"]), num_instances=len(content["annotations"])
    )


def _same_categories(train: DataCard, val: DataCard) -> None:
    """Every validation category must be one that is trained, with the same name."""
    known = dict(zip(*reversed(classes_of(train))))
    for name, number in zip(*classes_of(val)):
        if number not in known:
            raise UserError(f"{val.json} has category {number} ({name!r}), which {train.json} does not have")
        if known[number] != name:
            raise UserError(
                f"category {number} is {known[number]!r} in {train.json} but {name!r} in {val.json}; the two were "
                "numbered differently"
            )
