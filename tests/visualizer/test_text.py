"""Labels in any script, and programs that draw with Matplotlib."""

import logging
from pathlib import Path

import numpy as np
import pytest
from PIL import ImageFont

from detectron2.structures import Boxes, Instances
from detectron2.utils.visualizer import VisImage, Visualizer
from detectron2.visualization import fonts
from detectron2.visualization.text import SMALLEST_LETTERS, fitting, text_sheet, text_size


@pytest.fixture(autouse=True)
def _forget_fonts(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(fonts, "_found", {})
    monkeypatch.setattr(fonts, "_warned", set())
    yield
    text_sheet.cache_clear()  # sheets drawn with the fonts of one test are of no use to others


def test_pieces_keep_the_text_and_their_fonts_have_it() -> None:
    pytest.importorskip("matplotlib")  # brings DejaVu Sans
    pieces = fonts.split_by_font("cat σκύλος, кот")
    assert "".join(piece for _, piece in pieces) == "cat σκύλος, кот"
    assert pieces[0][0] == fonts.BUILT_IN
    assert all(Path(path).is_file() for path, _ in pieces if path)


@pytest.mark.parametrize("text", ["고양이", "自転車", "红绿灯"])
def test_korean_japanese_chinese(text: str, caplog: pytest.LogCaptureFixture) -> None:
    pytest.importorskip("noto_cjk_sans_jp_regular", reason="pip install 'detectron2[fonts]'")
    ((path, piece),) = fonts.split_by_font(text)
    assert piece == text and path
    missing = ImageFont.truetype(path, 30).getmask("\U0010ffff")
    shapes = [bytes(ImageFont.truetype(path, 30).getmask(c)) for c in text]
    assert bytes(missing) not in shapes and len(set(shapes)) == len(set(text))
    assert not caplog.records


def test_letters_that_no_font_has_are_told_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(fonts, "_candidates", lambda: iter(()))
    caplog.set_level(logging.WARNING, logger="detectron2.visualization")
    assert fonts.split_by_font("고양이 98%") == [("", "??? 98%")]
    assert fonts.split_by_font("강아지 98%") == [("", "??? 98%")]
    (record,) = caplog.records
    assert "HANGUL" in record.message and "detectron2[fonts]" in record.message
    fonts.split_by_font("猫")
    assert "CJK" in caplog.records[1].message


def test_a_font_of_ones_own_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Path(pytest.importorskip("matplotlib").get_data_path(), "fonts", "ttf")
    monkeypatch.setenv("DETECTRON2_FONT", str(folder / "DejaVuSerif.ttf"))
    assert dict((piece, path) for path, piece in fonts.split_by_font("λ"))["λ"].endswith("DejaVuSerif.ttf")


def test_a_broken_font_is_passed_over(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "broken.ttf").write_bytes(b"no font")
    monkeypatch.setattr(fonts, "_candidates", lambda: iter([str(tmp_path / "broken.ttf")]))
    assert fonts.split_by_font("λ") == [("", "?")]


def test_texts_fit_into_the_picture() -> None:
    shown, size = fitting("a very long name of a class 98%", 30, 0, 64, 64)
    assert size == SMALLEST_LETTERS and shown.endswith("…")
    assert text_size(shown, size)[0] <= 64
    assert fitting("dog", 20, 0, 640, 480) == ("dog", 20)
    for rotation in (0, 30):
        assert text_sheet("two\nlines", 20, rotation).size == text_size("two\nlines", 20, rotation)


# ------------------------------------------------------------------ Matplotlib


def test_ax_shows_what_was_drawn_and_what_is_added() -> None:
    patches = pytest.importorskip("matplotlib.patches")
    canvas = Visualizer(np.full((60, 80, 3), 50, np.uint8), scale=1.5)
    canvas.draw_box((5, 5, 30, 30), edge_color="r")
    plain = canvas.output.get_image()
    assert canvas.output.ax.figure is canvas.output.fig
    np.testing.assert_array_equal(canvas.output.get_image(), plain)
    canvas.output.ax.add_patch(patches.Rectangle((40, 20), 20, 20, color="white"))
    canvas.draw_box((10, 40, 30, 55), edge_color="g", alpha=1)  # drawn after the figure was made
    drawn = canvas.output.get_image()
    assert drawn[45, 75].tolist() == [255, 255, 255]
    assert (drawn[60:85] != plain[60:85]).any()
    assert drawn[45, 6].tolist() == plain[45, 6].tolist()


def test_a_subclass_draws_with_helpers_and_ax() -> None:
    pytest.importorskip("matplotlib")

    class Mine(Visualizer):
        def draw_instance_predictions(self, predictions: Instances, **kwargs: object) -> VisImage:
            out = super().draw_instance_predictions(predictions, **kwargs)
            x0, y0, x1, y1 = predictions.pred_boxes.tensor[0].tolist()
            self.draw_text("mine", (x0, y0), font_size=12, color="w", horizontal_alignment="left")
            self.draw_polygon([[x0, y0], [x1, y0], [x1, y1]], "b", alpha=0.3)
            self.output.ax.plot([x0, x1], [y1, y1], linewidth=3, color="white")
            self.output.ax.text(x0, y1, "below", size=self._default_font_size)
            return out

        def draw_polygon(
            self, segment: object, color: object, edge_color: object = None, alpha: float = 0.5
        ) -> VisImage:
            polygons.append(segment)
            return super().draw_polygon(segment, color, edge_color, alpha)

    polygons: list[object] = []
    import torch

    found = Instances((60, 80), pred_boxes=Boxes(torch.tensor([[10.0, 10, 60, 40]])), scores=torch.ones(1))
    found.pred_masks = torch.zeros(1, 60, 80, dtype=torch.bool)
    found.pred_masks[0, 10:40, 10:60] = True
    drawn = Mine(np.zeros((60, 80, 3), np.uint8)).draw_instance_predictions(found).get_image()
    assert drawn.shape == (60, 80, 3)
    assert drawn[40, 30].min() > 200  # the white line
    assert len(polygons) == 2  # the mask, too, goes through what the subclass has replaced


def test_a_subclass_with_a_figure_of_its_own() -> None:
    figure = pytest.importorskip("matplotlib.figure")
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    class Mine(VisImage):
        def _setup_figure(self, img: np.ndarray) -> None:
            self.fig = figure.Figure(frameon=False)
            self.fig.set_size_inches((self.width + 0.01) / self.fig.dpi, (self.height + 0.01) / self.fig.dpi)
            self.canvas = FigureCanvasAgg(self.fig)
            self.ax = self.fig.add_axes([0, 0, 1, 1])
            self.ax.axis("off")
            self.ax.imshow(img, extent=(0, self.width, self.height, 0), interpolation="nearest")

    output = Mine(np.full((40, 50, 3), 9, np.uint8))
    output.rectangle((10, 10, 30, 30), "w", 1.0, 4)
    assert output.get_image()[20, 10].tolist() == [255, 255, 255]
    assert output.get_image()[20, 20].tolist() == [9, 9, 9]


def test_notebooks_get_a_png() -> None:
    assert VisImage(np.zeros((4, 5, 3), np.uint8))._repr_png_().startswith(b"\x89PNG")
