"""The sample data set: labels agree with the pictures and with one another."""

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detectron2.cli import main
from detectron2.data.formats import check_dataset, read_dataset
from detectron2.data.toys import STUFF, TOYS, draw_scene, write_toys
from detectron2.structures.rle import decode, mask_box


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_toys(tmp_path_factory.mktemp("toys"), {"train": 5, "val": 2}, size=(96, 128))


def content(folder: Path, name: str) -> dict:
    return json.loads((folder / f"{name}.json").read_text())


def test_masks_do_not_overlap_and_fill_their_boxes(folder: Path) -> None:
    labels = content(folder, "train")["annotations"]
    for image_id in {a["image_id"] for a in labels}:
        masks = [decode(a["segmentation"]) for a in labels if a["image_id"] == image_id]
        assert np.sum(masks, axis=0).max() == 1
    for label in labels:
        mask = decode(label["segmentation"])
        assert label["bbox"] == mask_box(mask)
        assert label["area"] == mask.sum() >= 10


def test_toys_differ_from_what_is_behind_them() -> None:
    pixels, toys, stuff = draw_scene(np.random.default_rng(3), 128, 160)
    again, _, _ = draw_scene(np.random.default_rng(3), 128, 160)
    assert np.array_equal(pixels, again)
    assert set(np.unique(stuff)) == {0, 1}
    for toy in toys:
        inside = pixels[toy.mask].astype(float).mean(axis=0)
        wood = pixels[(stuff == 1) & ~np.any([t.mask for t in toys], axis=0)].astype(float).mean(axis=0)
        assert np.abs(inside - wood).max() > 15


def test_rotated_boxes_hold_the_visible_pixels(folder: Path) -> None:
    plain = content(folder, "train")["annotations"]
    for label, turned in zip(plain, content(folder, "train_rotated")["annotations"], strict=True):
        x, y, width, height, angle = turned["bbox"]
        rows, columns = np.nonzero(decode(label["segmentation"]))
        turn = np.deg2rad(angle)
        across = (columns + 0.5 - x) * np.cos(turn) - (rows + 0.5 - y) * np.sin(turn)
        down = (columns + 0.5 - x) * np.sin(turn) + (rows + 0.5 - y) * np.cos(turn)
        assert np.abs(across).max() <= width / 2 + 1.5
        assert np.abs(down).max() <= height / 2 + 1.5


def test_tips_of_stars_lie_at_the_edge_of_their_masks(folder: Path) -> None:
    stars = content(folder, "train_keypoints")["annotations"]
    assert stars and all(a["category_id"] == TOYS.index("star") + 1 for a in stars)
    for star in stars:
        left, top, width, height = star["bbox"]
        for x, y, visible in np.reshape(star["keypoints"], (-1, 3)):
            if visible and star["area"] > 0.3 * width * height:
                assert left - 25 <= x <= left + width + 25
                assert top - 25 <= y <= top + height + 25


def test_panoptic_pictures_name_every_pixel(folder: Path) -> None:
    document = content(folder, "val_panoptic")
    assert len(document["categories"]) == len(TOYS) + len(STUFF)
    for entry in document["annotations"]:
        colors = np.asarray(Image.open(folder / "val_panoptic" / entry["file_name"])).astype(int)
        ids = colors @ [1, 256, 65536]
        areas = {s["id"]: s["area"] for s in entry["segments_info"]}
        assert areas == {int(i): int(n) for i, n in zip(*np.unique(ids, return_counts=True))}


def test_stuff_pictures_leave_the_toys_out(folder: Path) -> None:
    labels = content(folder, "train")["annotations"]
    picture = np.asarray(Image.open(folder / "train_stuff" / "0001.png"))
    toys = np.any([decode(a["segmentation"]) for a in labels if a["image_id"] == 1], axis=0)
    assert set(np.unique(picture)) <= {0, 1, 255}
    assert (picture[toys] == 255).all()


@pytest.mark.parametrize("name", ["train", "train_keypoints", "train_rotated"])
def test_the_check_of_labels_finds_no_fault(folder: Path, name: str) -> None:
    data = read_dataset(folder / f"{name}.json", images=str(folder / "train"))
    assert not data.skipped and len(data.records) == 5
    assert check_dataset(data).ok


def test_the_command_writes_and_never_overwrites(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    small = partial(write_toys, size=(48, 64), toys=1)
    monkeypatch.setattr("detectron2.cli.commands.data.write_toys", small)
    target = tmp_path / "장난감"
    assert main(["data", "sample", str(target), "--seed", "1"]) == 0
    assert len(list((target / "train").glob("*.jpg"))) == 40
    assert "detectron2 train" in capsys.readouterr().out
    assert main(["data", "sample", str(target)]) == 2
    assert "is not empty" in capsys.readouterr().err
