"""Pictures of every kind, and those that are none."""

import io
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from detectron2.prediction.inputs import is_several, to_rgb
from detectron2.prediction.sources import expand, frames, plural_name
from detectron2.utils.errors import UserError

from .conftest import picture

RGB = picture()


def as_file(image: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format=kind, **options)
    return buffer.getvalue()


GREY = Image.fromarray(RGB).convert("L")
DEEP = Image.fromarray(np.asarray(GREY).astype(np.uint16) * 256)
KINDS = {
    "grey JPEG": (as_file(GREY, "JPEG", quality=98), 1),
    "RGBA PNG": (as_file(Image.fromarray(RGB).convert("RGBA"), "PNG"), 0),
    "grey with alpha": (as_file(GREY.convert("LA"), "PNG"), 0),
    "palette": (as_file(Image.fromarray(RGB).quantize(256), "PNG"), 8),
    "16-bit PNG": (as_file(DEEP, "PNG"), 0),
    "16-bit TIFF": (as_file(DEEP, "TIFF"), 0),
    "CMYK JPEG": (as_file(Image.fromarray(RGB).convert("CMYK"), "JPEG", quality=98), 2),
    "animated GIF": (
        as_file(Image.fromarray(RGB).quantize(256), "GIF", save_all=True, append_images=[GREY.quantize(4)] * 3), 8,
    ),
    "animated WebP": (
        as_file(Image.fromarray(RGB), "WEBP", save_all=True, append_images=[GREY.convert("RGB")], quality=95), 4,
    ),
    "black and white": (as_file(GREY.convert("1"), "PNG"), 128),
}  # fmt: skip


@pytest.mark.parametrize("kind", list(KINDS))
def test_files_of_every_kind_become_rgb(kind, tmp_path):
    data, tolerance = KINDS[kind]
    grey = "grey" in kind or "16-bit" in kind
    expected = np.asarray(GREY.convert("RGB")) if grey else RGB
    path = tmp_path / "picture"
    path.write_bytes(data)
    for given in (data, path, str(path), Image.open(io.BytesIO(data))):
        found = to_rgb(given)
        assert found.dtype == np.uint8 and found.shape == RGB.shape
        assert np.abs(found.astype(int) - expected).mean() <= tolerance


@pytest.mark.parametrize("order", ["RGB", "BGR"])
def test_arrays_and_tensors(order):
    given = RGB if order == "RGB" else RGB[:, :, ::-1]
    alpha = np.full((*RGB.shape[:2], 1), 9, np.uint8)
    for array in (given, given.astype(np.int64), given.astype(np.float32), np.concatenate([given, alpha], 2)):
        assert np.array_equal(to_rgb(array, order), RGB)
        tensor = torch.from_numpy(np.ascontiguousarray(array.transpose(2, 0, 1)))
        assert np.array_equal(to_rgb(tensor, order), RGB)
    grey = np.asarray(GREY)
    for array in (grey, grey[:, :, None], np.stack([grey, grey], 2), torch.from_numpy(grey.copy())):
        assert np.array_equal(to_rgb(array, order), np.asarray(GREY.convert("RGB")))
    assert to_rgb(grey > 99).max() == 255
    half = torch.from_numpy(given.copy()).permute(2, 0, 1).bfloat16()
    assert np.abs(to_rgb(half, order) - RGB).max() < 1


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (np.zeros((0, 5, 3), np.uint8), "with pixels"),
        (np.zeros((3, 40, 60), np.uint8), r"looks like \(channels, height, width\)"),
        (torch.zeros(40, 60, 3), r"looks like \(height, width, channels\)"),
        (np.zeros((40, 60, 7), np.uint8), "1 to 4 channels"),
        (np.zeros(5), "height, width"),
        (np.full((4, 4, 3), 4000, np.uint16), "divide 16-bit images by 256"),
        (np.full((4, 4, 3), np.nan), "not finite"),
        (Image.new("RGB", (0, 5)), "must have pixels"),
        (None, "array or tensor, got NoneType"),
        (0, "got int; predictor.stream.* takes cameras"),
    ],
)
def test_what_is_no_picture_is_refused(bad, message):
    with pytest.raises((ValueError, TypeError), match=message):
        to_rgb(bad)


def test_what_looks_wrong_is_said(caplog):
    to_rgb(RGB / 255.0)
    assert "values in [0, 255] are expected" in caplog.text
    caplog.clear()
    to_rgb(RGB * 300.0)
    assert "A picture has values from" in caplog.text
    library = type("Array", (np.ndarray,), {"__module__": "imageio.core.util"})
    caplog.clear()
    to_rgb(RGB.view(library), "RGB")
    assert not caplog.text
    to_rgb(RGB.view(library), "BGR")
    assert "input_format='RGB'" in caplog.text


def huge_png() -> bytes:
    """A small file that promises 400 million pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", 20000, 20000, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(b"0"))
        + chunk(b"IEND", b"")
    )


def test_files_that_cannot_be_read_are_told_and_passed_over(tmp_path):
    whole = as_file(Image.fromarray(RGB), "JPEG")
    files = {
        "cut.jpg": whole[:400],
        "empty.png": b"",
        "huge.png": huge_png(),
        "page.jpg": b"<html>",
        "good.jpg": whole,
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    broken, reasons = [], []
    found = list(
        frames(
            tmp_path,
            broken=lambda source, frame, error: (
                broken.append(source.rsplit("/", 1)[-1]),
                reasons.append(str(error)),
            ),
        )
    )
    assert f"{tmp_path / 'empty.png'} is not an image: it is empty" in reasons
    assert any("`--tile`" in reason and "`TiledPredictor`" in reason for reason in reasons)
    assert any(str(tmp_path / "page.jpg") in reason and "known format" in reason for reason in reasons)
    assert [f.source.rsplit("/", 1)[-1] for f in found] == ["good.jpg"]
    assert sorted(broken) == ["cut.jpg", "empty.png", "huge.png", "page.jpg"]
    for name in broken:
        with pytest.raises((OSError, Image.DecompressionBombError), match=name):
            to_rgb(tmp_path / name)


def test_names_of_several_pictures(tmp_path, monkeypatch):
    for name in ("b.jpg", "a.png", "in/c.jpg", "in/notes.txt", "odd[1].jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    names = lambda found: [str(p).removeprefix(f"{tmp_path}/") for p in found]  # noqa: E731
    assert names(expand(tmp_path)) == ["a.png", "b.jpg", "in/c.jpg", "odd[1].jpg"]
    assert names(expand(tmp_path / "*.jpg")) == ["b.jpg", "odd[1].jpg"]
    assert names(expand(tmp_path / "**/*.jpg")) == ["b.jpg", "in/c.jpg", "odd[1].jpg"]
    assert names(expand(tmp_path / "odd[1].jpg")) == ["odd[1].jpg"]
    assert expand("https://example.org/a*b.jpg?x=1") == ["https://example.org/a*b.jpg?x=1"]
    monkeypatch.setenv("HOME", str(tmp_path))
    assert names(expand("~/a.png")) == ["a.png"]
    with pytest.raises(UserError, match="did you mean"):
        expand(tmp_path / "a.pmg")
    kinds = {"camera:1": "a camera", "a*.jpg": "a pattern", "https://x/a.mp4?k=1": "a video", "a.jpg": ""}
    assert {name: plural_name(name) for name in kinds} == kinds and plural_name(tmp_path) == "a folder"


def test_one_or_several():
    assert not any(
        is_several(v) for v in ("a", b"a", RGB, torch.zeros(3, 4, 4), GREY, {"image": []}, np.zeros(3))
    )
    assert all(is_several(v) for v in (["a"], (), iter(()), RGB[None], torch.zeros(1, 3, 4, 4)))
    with pytest.raises(TypeError, match="got dict"):
        list(frames({"image": RGB}))
    with pytest.raises(TypeError, match="got float"):
        list(frames([1.5]))
