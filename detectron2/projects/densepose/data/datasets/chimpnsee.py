"""Chimp&See: videos of chimpanzees from camera traps (https://www.chimpandsee.org), without annotations."""

from detectron2.data import DatasetCatalog, MetadataCatalog

from ..utils import maybe_prepend_base_path
from .dataset_type import DatasetType

__all__ = ["CHIMPNSEE_DATASET_NAME", "register_dataset"]

CHIMPNSEE_DATASET_NAME = "chimpnsee"


def register_dataset(datasets_root: str | None = None) -> None:
    """Register the list of videos; the dataset has no records.

    Args:
        datasets_root: folder that contains ``chimpnsee/``.
    """
    DatasetCatalog.register(CHIMPNSEE_DATASET_NAME, list)
    folder = maybe_prepend_base_path(datasets_root, "chimpnsee/cdna.eva.mpg.de")
    MetadataCatalog.get(CHIMPNSEE_DATASET_NAME).set(
        dataset_type=DatasetType.VIDEO_LIST,
        video_list_fpath=f"{folder}/video_list.txt",
        video_base_path=folder,
        category="chimpanzee",
    )
