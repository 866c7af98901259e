"""Build the loaders of unannotated images, which a trained model annotates for bootstrapping."""

import logging
from collections import UserDict
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

from torch import nn
from torch.utils.data import DataLoader, Dataset

from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.data.build import trivial_batch_collator, worker_init_reset_seed
from detectron2.data.samplers import TrainingSampler
from detectron2.utils import comm
from detectron2.utils.suggest import did_you_mean

from ..config import get_bootstrap_dataset_config
from ..modeling.build import build_densepose_embedder
from .categories import renew_metadata
from .combined_loader import CombinedDataLoader
from .datasets.dataset_type import DatasetType
from .inference_based_loader import InferenceBasedLoader, ScoreBasedFilter
from .samplers import (
    DensePoseConfidenceBasedSampler,
    DensePoseCSEConfidenceBasedSampler,
    DensePoseCSEUniformSampler,
    DensePoseUniformSampler,
    MaskFromDensePoseSampler,
    PredictionToGroundTruthSampler,
)
from .transform import ImageResizeTransform
from .utils import get_category_to_class_mapping
from .video import (
    FirstKFramesSelector,
    FrameSelectionStrategy,
    LastKFramesSelector,
    RandomKFramesSelector,
    VideoKeyframeDataset,
    video_list_from_file,
)

__all__ = [
    "BootstrapDatasetFactoryCatalog",
    "build_bootstrap_dataset",
    "build_combined_loader",
    "build_data_filter",
    "build_data_sampler",
    "build_frame_selector",
    "build_inference_based_loader",
    "build_inference_based_loaders",
    "build_transform",
    "build_video_list_dataset",
    "has_inference_based_loaders",
]

logger = logging.getLogger(__name__)

# Fraction of the pixels among which confidence-based samplers choose.
_SEARCH_PROPORTION = 0.5


class _BootstrapDatasetFactoryCatalog(UserDict):
    """Dataset type -> function that builds a dataset from its metadata and the config of its image loader."""

    def register(self, dataset_type: DatasetType, factory: Callable[[Any, CfgNode], Dataset | None]) -> None:
        """Register the function of a type; replacing one is logged."""
        if dataset_type in self:
            logger.warning("The factory of %s datasets is replaced", dataset_type)
        self[dataset_type] = factory


BootstrapDatasetFactoryCatalog = _BootstrapDatasetFactoryCatalog()


def _unknown(key: str, value: str, known: Iterable[str]) -> ValueError:
    return ValueError(f"{key} is {value!r}. {did_you_mean(value, known)}")


def build_frame_selector(cfg: CfgNode) -> Callable[[list[int]], list[int]] | None:
    """Build the frame selector of videos.

    Args:
        cfg: ``STRATEGY``, a value of :class:`FrameSelectionStrategy`, and ``NUM_IMAGES``.

    Returns:
        The selector; None = take all frames.
    """
    strategy = FrameSelectionStrategy(cfg.STRATEGY)
    if strategy is FrameSelectionStrategy.ALL:
        return None
    selectors: dict[FrameSelectionStrategy, Callable[[int], Callable[[list[int]], list[int]]]] = {
        FrameSelectionStrategy.RANDOM_K: RandomKFramesSelector,
        FrameSelectionStrategy.FIRST_K: FirstKFramesSelector,
        FrameSelectionStrategy.LAST_K: LastKFramesSelector,
    }
    return selectors[strategy](cfg.NUM_IMAGES)


def build_transform(cfg: CfgNode, data_type: str) -> ImageResizeTransform:
    """Build the transform of the images.

    Args:
        cfg: ``TYPE`` "resize", ``MIN_SIZE`` and ``MAX_SIZE``.
        data_type: "image".

    Raises:
        ValueError: ``TYPE`` or ``data_type`` is unknown.
    """
    if cfg.TYPE != "resize":
        raise _unknown("TRANSFORM.TYPE", cfg.TYPE, ["resize"])
    if data_type != "image":
        raise _unknown("data_type", data_type, ["image"])
    return ImageResizeTransform(cfg.MIN_SIZE, cfg.MAX_SIZE)


def build_video_list_dataset(meta: Any, cfg: CfgNode) -> Dataset | None:
    """Build a dataset of videos.

    Args:
        meta: metadata with ``video_list_fpath``, ``video_base_path`` and ``category``.
        cfg: ``TYPE`` "video_keyframe", ``SELECT``, ``TRANSFORM`` and, if there is a table of key frames,
            ``KEYFRAME_HELPER``.

    Returns:
        The dataset; None for another ``TYPE``.
    """
    if cfg.TYPE != "video_keyframe":
        return None
    return VideoKeyframeDataset(
        video_list_from_file(meta.video_list_fpath, meta.video_base_path),
        meta.category,
        build_frame_selector(cfg.SELECT),
        build_transform(cfg.TRANSFORM, data_type="image"),
        cfg.get("KEYFRAME_HELPER"),
    )


BootstrapDatasetFactoryCatalog.register(DatasetType.VIDEO_LIST, build_video_list_dataset)


def build_bootstrap_dataset(dataset_name: str, cfg: CfgNode) -> Dataset:
    """Build a dataset of images without annotations.

    Args:
        dataset_name: a registered dataset whose metadata has ``dataset_type``.
        cfg: ``IMAGE_LOADER`` of its entry in ``BOOTSTRAP_DATASETS``. Its categories go into the metadata.

    Raises:
        ValueError: no function builds datasets of this type with this ``TYPE`` of loader.
    """
    renew_metadata(
        dataset_name,
        category_to_class_mapping=get_category_to_class_mapping(cfg),
        categories=cfg.CATEGORIES,
        max_count_per_category=cfg.MAX_COUNT_PER_CATEGORY,
    )
    meta = MetadataCatalog.get(dataset_name)
    factory = BootstrapDatasetFactoryCatalog.get(meta.dataset_type)
    dataset = None if factory is None else factory(meta, cfg)
    if dataset is None:
        raise ValueError(
            f"dataset {dataset_name!r} of type {meta.dataset_type} cannot be built with IMAGE_LOADER.TYPE "
            f"{cfg.TYPE!r}: register a function that builds it with BootstrapDatasetFactoryCatalog.register"
        )
    return dataset


def build_data_sampler(
    cfg: CfgNode, sampler_cfg: CfgNode, embedder: nn.Module | None
) -> PredictionToGroundTruthSampler:
    """Build the sampler that converts predictions to annotations.

    Args:
        cfg: the whole config.
        sampler_cfg: ``TYPE``, ``COUNT_PER_CLASS`` and, for surface embeddings, ``USE_GROUND_TRUTH_CATEGORIES``.
        embedder: vertex embeddings, for surface embeddings.

    Raises:
        ValueError: an unknown ``TYPE``.
    """
    of_charts = {
        "densepose_UV_confidence": "sigma_2",
        "densepose_fine_segm_confidence": "fine_segm_confidence",
        "densepose_coarse_segm_confidence": "coarse_segm_confidence",
    }
    of_embeddings = {"densepose_cse_coarse_segm_confidence": "coarse_segm_confidence"}
    kind, count = sampler_cfg.TYPE, sampler_cfg.get("COUNT_PER_CLASS", 8)
    search: dict[str, Any] = {"search_proportion": _SEARCH_PROPORTION}
    points: Any
    if kind == "densepose_uniform":
        points = DensePoseUniformSampler(count)
    elif kind in of_charts:
        points = DensePoseConfidenceBasedSampler(of_charts[kind], count, **search)
    elif kind == "densepose_cse_uniform" or kind in of_embeddings:
        if embedder is None:
            raise ValueError(f"DATA_SAMPLER.TYPE {kind!r} needs MODEL.ROI_DENSEPOSE_HEAD.CSE.EMBEDDERS")
        common = (cfg, sampler_cfg.USE_GROUND_TRUTH_CATEGORIES, embedder)
        if kind in of_embeddings:
            points = DensePoseCSEConfidenceBasedSampler(*common, of_embeddings[kind], count, **search)
        else:
            points = DensePoseCSEUniformSampler(*common, count)
    else:
        known = ["densepose_uniform", "densepose_cse_uniform", *of_charts, *of_embeddings]
        raise _unknown("DATA_SAMPLER.TYPE", kind, known)
    sampler = PredictionToGroundTruthSampler()
    sampler.register_sampler("pred_densepose", "gt_densepose", points)
    sampler.register_sampler("pred_densepose", "gt_masks", MaskFromDensePoseSampler())
    return sampler


def build_data_filter(cfg: CfgNode) -> ScoreBasedFilter:
    """Build the filter of predictions.

    Args:
        cfg: ``TYPE`` "detection_score" and ``MIN_VALUE``.

    Raises:
        ValueError: an unknown ``TYPE``.
    """
    if cfg.TYPE != "detection_score":
        raise _unknown("FILTER.TYPE", cfg.TYPE, ["detection_score"])
    return ScoreBasedFilter(min_score=cfg.MIN_VALUE)


def build_inference_based_loader(
    cfg: CfgNode, dataset_cfg: CfgNode, model: nn.Module, embedder: nn.Module | None = None
) -> InferenceBasedLoader:
    """Build a loader of training data from a model's predictions.

    Args:
        cfg: the whole config.
        dataset_cfg: an entry of ``BOOTSTRAP_DATASETS``.
        model: the trained detector.
        embedder: vertex embeddings, for surface embeddings.
    """
    dataset: Any = build_bootstrap_dataset(dataset_cfg.DATASET, dataset_cfg.IMAGE_LOADER)
    images: DataLoader = DataLoader(
        dataset,
        batch_size=dataset_cfg.IMAGE_LOADER.BATCH_SIZE,
        sampler=TrainingSampler(len(dataset)),
        num_workers=dataset_cfg.IMAGE_LOADER.NUM_WORKERS,
        collate_fn=trivial_batch_collator,
        worker_init_fn=worker_init_reset_seed,
    )
    return InferenceBasedLoader(
        model,
        data_loader=images,
        data_sampler=build_data_sampler(cfg, dataset_cfg.DATA_SAMPLER, embedder),
        data_filter=build_data_filter(dataset_cfg.FILTER),
        shuffle=True,
        batch_size=dataset_cfg.INFERENCE.OUTPUT_BATCH_SIZE,
        inference_batch_size=dataset_cfg.INFERENCE.INPUT_BATCH_SIZE,
        category_to_class_mapping=MetadataCatalog.get(dataset_cfg.DATASET).category_to_class_mapping,
    )


def has_inference_based_loaders(cfg: CfgNode) -> bool:
    """Return whether a config has datasets for bootstrapping."""
    return len(cfg.BOOTSTRAP_DATASETS) > 0


def build_inference_based_loaders(
    cfg: CfgNode, model: nn.Module
) -> tuple[list[InferenceBasedLoader], list[float]]:
    """Build the loaders of all datasets for bootstrapping.

    Args:
        cfg: the whole config.
        model: the trained detector.

    Returns:
        The loaders, and their sampling ratios (annotated data has 1).
    """
    embedder = build_densepose_embedder(cfg)
    if embedder is not None:
        embedder = embedder.to(model.device)  # type: ignore[arg-type]
    loaders, ratios = [], []
    for entry in cfg.BOOTSTRAP_DATASETS:
        dataset_cfg = get_bootstrap_dataset_config()
        dataset_cfg.merge_from_other_cfg(CfgNode(entry))
        loaders.append(build_inference_based_loader(cfg, dataset_cfg, model, embedder))
        ratios.append(dataset_cfg.RATIO)
    return loaders, ratios


def build_combined_loader(
    cfg: CfgNode, loaders: Collection[Iterable[Any]], ratios: Sequence[float]
) -> CombinedDataLoader:
    """Build a loader that mixes the elements of several.

    Args:
        cfg: config; ``SOLVER.IMS_PER_BATCH`` is the batch size over all processes.
        loaders: loaders that yield batches as lists.
        ratios: relative sampling ratio of each loader.
    """
    world, total = comm.get_world_size(), cfg.SOLVER.IMS_PER_BATCH
    if total < world or total % world:
        raise ValueError(
            f"SOLVER.IMS_PER_BATCH must be a positive multiple of the {world} processes, got {total}"
        )
    return CombinedDataLoader(loaders, total // world, ratios)
