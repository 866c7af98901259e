"""DensePose data: datasets, meshes, loaders, mappers and samplers of annotations from predictions."""

from . import meshes  # isort: skip (structures need meshes, and the other modules need structures)
from . import datasets, samplers
from .build import (
    BootstrapDatasetFactoryCatalog,
    build_combined_loader,
    build_detection_test_loader,
    build_detection_train_loader,
    build_frame_selector,
    build_inference_based_loaders,
    has_inference_based_loaders,
)
from .combined_loader import CombinedDataLoader
from .dataset_mapper import DatasetMapper
from .image_list_dataset import ImageListDataset
from .inference_based_loader import InferenceBasedLoader, ScoreBasedFilter
from .utils import is_relative_local_path, maybe_prepend_base_path

__all__ = [
    "BootstrapDatasetFactoryCatalog",
    "CombinedDataLoader",
    "DatasetMapper",
    "ImageListDataset",
    "InferenceBasedLoader",
    "ScoreBasedFilter",
    "build_combined_loader",
    "build_detection_test_loader",
    "build_detection_train_loader",
    "build_frame_selector",
    "build_inference_based_loaders",
    "datasets",
    "has_inference_based_loaders",
    "is_relative_local_path",
    "maybe_prepend_base_path",
    "meshes",
    "samplers",
]
