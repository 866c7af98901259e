"""Drawing of predictions and annotations; needs nothing beyond numpy and Pillow."""

from ._canvas import VisImage
from ._colors import ColorMode
from ._labels import create_text_labels as _create_text_labels
from ._masks import GenericMask
from ._visualizer import Visualizer

for _public in (ColorMode, GenericMask, VisImage, Visualizer):
    _public.__module__ = __name__  # the path under which they are pickled and documented
del _public

__all__ = ["ColorMode", "GenericMask", "VisImage", "Visualizer", "_create_text_labels"]
