"""Select and merge the categories of several datasets, and number the resulting classes.

Configs name categories by their ids in the files: ``DATASETS.WHITELISTED_CATEGORIES`` lists the used categories, and
``DATASETS.CATEGORY_MAPS`` merges categories into others.
"""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog

from .utils import get_class_to_mesh_name_mapping

__all__ = [
    "MergedCategories",
    "add_category_settings_to_metadata",
    "merge_categories",
    "renew_metadata",
    "with_contiguous_ids",
]

logger = logging.getLogger(__name__)


def renew_metadata(dataset_name: str, **values: object) -> None:
    """Set metadata, overwriting old values: categories follow the config, which may change."""
    metadata = MetadataCatalog.get(dataset_name)
    for key, value in values.items():
        metadata.__dict__.pop(key, None)
        setattr(metadata, key, value)


def add_category_settings_to_metadata(cfg: CfgNode) -> None:
    """Write the category settings of a config to the metadata of its datasets.

    These are ``whitelisted_categories``, ``category_map`` and ``class_to_mesh_name``.

    Args:
        cfg: a config with the keys of DensePose.
    """
    for name, ids in cfg.DATASETS.WHITELISTED_CATEGORIES.items():
        renew_metadata(name, whitelisted_categories=list(ids))
    for name, pairs in cfg.DATASETS.CATEGORY_MAPS.items():
        renew_metadata(name, category_map={int(source): int(target) for source, target in pairs.items()})
    meshes = get_class_to_mesh_name_mapping(cfg)
    for name in dict.fromkeys((*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST)):
        renew_metadata(name, class_to_mesh_name=meshes)


@dataclass(frozen=True)
class MergedCategories:
    """The used categories of several datasets.

    Attributes:
        merged_ids: name of a dataset -> id of a used category -> id of the category it is merged into.
        names: id of a merged category -> its name, in the order of the ids.
    """

    merged_ids: dict[str, dict[int, int]]
    names: dict[int, str]

    @property
    def class_names(self) -> list[str]:
        """Names of the classes, in the order of their contiguous numbers."""
        return list(self.names.values())

    def write_metadata(self) -> None:
        """Write the classes to the metadata of the datasets.

        ``thing_classes`` lists the classes of a dataset, ``thing_dataset_id_to_contiguous_id`` numbers them among
        the classes of all datasets, and ``thing_dataset_id_to_merged_id`` maps categories to merged ones.
        """
        number = {merged: i for i, merged in enumerate(self.names)}
        for dataset_name, merged_ids in self.merged_ids.items():
            ordered = dict(sorted(merged_ids.items(), key=lambda pair: pair[1]))
            renew_metadata(
                dataset_name,
                thing_classes=[self.names[merged] for merged in dict.fromkeys(ordered.values())],
                thing_dataset_id_to_contiguous_id={c: number[merged] for c, merged in ordered.items()},
                thing_dataset_id_to_merged_id=ordered,
            )


def merge_categories(dataset_names: Iterable[str]) -> MergedCategories:
    """Determine the used categories and the categories they are merged into.

    Categories of different datasets with the same id are the same class; a warning is logged if their names differ.

    Args:
        dataset_names: loaded datasets, whose metadata has ``categories``.
    """
    merged_ids: dict[str, dict[int, int]] = {}
    for name in dataset_names:
        metadata = MetadataCatalog.get(name)
        targets = metadata.get("category_map", {})
        used = metadata.get("whitelisted_categories")
        used = metadata.categories if used is None else used
        unknown = sorted(set(used) - set(metadata.categories))
        if unknown:
            raise ValueError(
                f"DATASETS.WHITELISTED_CATEGORIES of {name!r} names {unknown}, which its file does not define"
            )
        merged_ids[name] = {category: targets.get(category, category) for category in used}
    targets_in_use = sorted({merged for ids in merged_ids.values() for merged in ids.values()})
    return MergedCategories(merged_ids, {merged: _name_of(merged, merged_ids) for merged in targets_in_use})


def _name_of(merged: int, merged_ids: Mapping[str, Mapping[int, int]]) -> str:
    """Return the name of a class, preferably from datasets that use the category itself."""
    names = {d: MetadataCatalog.get(d).categories.get(merged) for d in merged_ids}
    using = [d for d, ids in merged_ids.items() if merged in ids]
    found = dict.fromkeys(names[d] for d in (*using, *merged_ids) if names[d] is not None)
    own = {names[d] for d in using}
    if len(own) > 1:
        logger.warning("Category %d has different names and is merged nevertheless: %s", merged, sorted(own))
    return next(iter(found), str(merged))


def with_contiguous_ids(dataset_name: str, dataset_dicts: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Keep only the annotations of used categories, with contiguous class numbers.

    Args:
        dataset_name: dataset whose metadata has ``thing_dataset_id_to_contiguous_id``.
        dataset_dicts: its records; not changed.

    Returns:
        New records, in the same order.
    """
    numbers = MetadataCatalog.get(dataset_name).thing_dataset_id_to_contiguous_id
    return [
        {
            **record,
            "annotations": [
                {**a, "category_id": numbers[a["category_id"]]}
                for a in record["annotations"]
                if a["category_id"] in numbers
            ],
        }
        for record in dataset_dicts
    ]
