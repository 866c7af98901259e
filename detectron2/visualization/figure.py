"""A Matplotlib figure of a ``VisImage``, for programs that draw with ``output.ax``; made only when one asks for it."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image

__all__ = ["NAMES", "open_figure", "rendered", "show_drawing"]

NAMES = ("fig", "ax", "canvas")  # under which a VisImage has its figure
_MARGIN = 1e-2  # pixels: Matplotlib cuts sizes to whole pixels, and inches are not exact


class Drawing(Protocol):
    """The part of a ``VisImage`` that a figure shows."""

    sheet: Image.Image
    width: int
    height: int


def open_figure(drawing: Drawing) -> tuple[Any, Any, Any]:
    """Make a figure without borders that shows a drawing, pixel for pixel.

    Args:
        drawing: what it shows, also what is drawn there later.

    Returns:
        The figure, its canvas and its axes, whose coordinates are those of ``drawing``'s image.

    Raises:
        ImportError: without Matplotlib.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            "drawing on output.ax needs Matplotlib: pip install 'detectron2[viz]'; the draw_ methods of Visualizer do not"
        ) from error
    figure = Figure(frameon=False)
    width, height = drawing.sheet.size
    figure.set_size_inches((width + _MARGIN) / figure.dpi, (height + _MARGIN) / figure.dpi)
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.axis("off")
    show_drawing(drawing, axes)
    return figure, canvas, axes


def show_drawing(drawing: Drawing, axes: Any) -> None:
    """Show a drawing in axes, always as it is when the figure is rendered.

    Args:
        drawing: what to show.
        axes: of Matplotlib; artists that are added later lie on top.
    """
    from matplotlib.image import AxesImage

    class LivePicture(AxesImage):
        def draw(self, renderer: Any) -> None:
            self.set_data(np.asarray(drawing.sheet))
            super().draw(renderer)

    extent = (0, drawing.width, drawing.height, 0)
    picture = LivePicture(axes, interpolation="nearest", extent=extent)
    picture.set_data(np.asarray(drawing.sheet))
    axes.add_image(picture)
    axes.set_xlim(0, drawing.width)
    axes.set_ylim(drawing.height, 0)


def rendered(canvas: Any) -> npt.NDArray[np.uint8]:
    """Render a figure as RGB ``[height, width, 3]``.

    Args:
        canvas: of the Agg backend.
    """
    data, (width, height) = canvas.print_to_buffer()
    return np.frombuffer(data, dtype=np.uint8).reshape(height, width, 4)[:, :, :3].copy()
