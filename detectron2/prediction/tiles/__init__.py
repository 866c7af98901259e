"""Predictions for large images, tile by tile."""

from .merge import MergeRule, merge_pieces
from .pieces import Crop, Pieces, pieces_of

__all__ = ["Crop", "MergeRule", "Pieces", "merge_pieces", "pieces_of"]
