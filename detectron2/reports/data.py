"""A page of images with their labels."""

import logging
import math
from pathlib import Path

from detectron2.data import Metadata
from detectron2.data import detection_utils as utils
from detectron2.data.formats.base import Dataset
from detectron2.data.health import dataset_statistics
from detectron2.utils.image_io import READ_ERRORS

from .charts import bar_chart
from .page import chart, counted, figure, render
from .pictures import draw_labels, save_row

__all__ = ["write_data_page"]

logger = logging.getLogger(__name__)


def write_data_page(dataset: Dataset, folder: Path, *, title: str, limit: int = 24) -> Path:
    """Write ``index.html`` and ``pictures/`` with statistics of a dataset, and labels drawn on evenly spaced images.

    Args:
        dataset: the dataset.
        folder: folder to write to.
        title: heading of the page.
        limit: largest number of images.
    """
    metadata = Metadata(name=title).set(**dataset.metadata)
    numbers = dataset_statistics(dataset.records, dataset.classes or None)
    step = max(len(dataset.records) / max(limit, 1), 1.0)
    chosen = [dataset.records[math.floor(i * step)] for i in range(min(limit, len(dataset.records)))]
    pictures, broken = [], []
    for number, record in enumerate(chosen):
        path = folder / "pictures" / f"{number:03d}.jpg"
        try:
            image = utils.read_image(record["file_name"], "RGB")
        except (*READ_ERRORS, ValueError) as error:
            logger.warning("Skipped, because it cannot be read: %s (%s)", record["file_name"], error)
            broken.append(Path(record["file_name"]).name)
            continue
        save_row([draw_labels(image, record, metadata)], path)
        labels = counted(len(record.get("annotations", ())), "label")
        pictures.append(figure(path, f"{Path(record['file_name']).name}: {labels}"))
    counts = {c["name"]: float(c["annotations"]) for c in numbers["classes"]}
    return render(
        "data.html",
        folder / "index.html",
        title=title,
        lead=f"{counted(numbers['num_images'], 'image')}, {counted(numbers['num_annotations'], 'label')}, "
        f"{counted(len(counts), 'class')}.",
        charts=[chart("Labels by class", bar_chart(counts, label="labels"))],
        facts=[
            (k.removeprefix("num_").replace("_", " "), _text(v)) for k, v in numbers.items() if k != "classes"
        ]
        + ([("cannot be read", ", ".join(broken))] if broken else []),
        pictures=pictures,
    )


def _text(value: object) -> str:
    """Write a statistic: a number, names, or numbers by name."""
    if isinstance(value, dict):
        return ", ".join(f"{name} {_text(number)}" for name, number in value.items()) or "none"
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return f"{value:,g}" if isinstance(value, (int, float)) else str(value)
