"""DensePose data: data sets, meshes, loaders, mappers and samplers of annotations from predictions."""

from . import meshes

__all__ = ["meshes"]
