"""Predictions for large images, tile by tile."""

from .labels import class_areas
from .large import LargePrediction, TiledModel, TiledPredictor
from .merge import MergeRule, merge_pieces
from .output import coco_objects, draw_small, geojson, write_geojson
from .pieces import Crop, Pieces, pieces_of
from .segments import PanopticMap

__all__ = [
    "Crop",
    "LargePrediction",
    "MergeRule",
    "PanopticMap",
    "Pieces",
    "TiledModel",
    "TiledPredictor",
    "class_areas",
    "coco_objects",
    "draw_small",
    "geojson",
    "merge_pieces",
    "pieces_of",
    "write_geojson",
]
