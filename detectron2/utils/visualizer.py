"""Public path of the drawing classes; the code is in ``detectron2/visualization/``."""

from detectron2.utils.reexports import publish
from detectron2.visualization.canvas import VisImage
from detectron2.visualization.colors import ColorMode
from detectron2.visualization.labels import create_text_labels as _create_text_labels
from detectron2.visualization.masks import GenericMask
from detectron2.visualization.visualizer import Visualizer

from .reexports import passed_on

__all__ = ["ColorMode", "GenericMask", "VisImage", "Visualizer", "_create_text_labels"]

__getattr__ = passed_on(__name__)

publish(__name__, ColorMode, GenericMask, VisImage, Visualizer)
