"""Labels cut to tiles show what the tile shows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from detectron2.data.formats import Dataset
from detectron2.data.tiles import Tile, TileOptions, cut_dataset, labels_in, tile_grid
from detectron2.structures import BoxMode
from detectron2.structures.placed_masks import decode_window, join_placed
from detectron2.structures.rle import encode, to_mask

HEIGHT, WIDTH = 90, 120


def label(**parts: Any) -> dict[str, Any]:
    return {"bbox_mode": BoxMode.XYXY_ABS, "category_id": 1, "iscrowd": 0, **parts}


def blob(rng: np.random.Generator) -> list[float]:
    angles = np.linspace(0, 2 * np.pi, 14, endpoint=False)
    radius = rng.uniform(10, 30, 14)
    x, y = rng.uniform(0, WIDTH), rng.uniform(0, HEIGHT)
    points = np.stack([x + radius * np.cos(angles), y + radius * np.sin(angles)], 1)
    return [float(v) for v in points.clip(0, [WIDTH, HEIGHT]).ravel()]


@pytest.mark.parametrize("form", ["polygon", "rle", "array"])
@pytest.mark.parametrize("seed", range(4))
def test_masks_are_those_of_the_image_inside_the_tile(form: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    kept = 0
    for _ in range(6):
        polygon = blob(rng)
        mask = to_mask([polygon], HEIGHT, WIDTH)
        points = np.reshape(polygon, (-1, 2))
        shape: Any = {"polygon": [polygon], "rle": encode(mask), "array": mask}[form]
        anno = label(bbox=[*points.min(0), *points.max(0)], segmentation=shape, id=7, area=1.0)
        for tile in tile_grid(HEIGHT, WIDTH, 40, 0.2):
            found = labels_in([anno], tile)
            part = mask[tile.y0 : tile.y1, tile.x0 : tile.x1]
            share = part.sum() / mask.sum()
            fills = part.sum() / part.size
            if max(share, fills) < 0.2:
                assert not found
            if max(share, fills) > 0.3:
                assert len(found) == 1
            for f in found:
                kept += 1
                assert not {"id", "area"} & set(f)
                cut = to_mask(f["segmentation"], tile.height, tile.width)
                assert (cut != part).sum() <= (0 if form != "polygon" else 25)
                ys, xs = np.nonzero(part)
                tight = [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]
                np.testing.assert_allclose(f["bbox"], tight, atol=0.01 if form != "polygon" else 2)
    assert kept > 10


def test_boxes_keypoints_rotated_boxes_and_crowds() -> None:
    tile = Tile(50, 40, 100, 90)
    annos = [
        label(bbox=[40, 45, 80, 60], keypoints=[45, 50, 2, 60, 50, 2]),  # three quarters are shown
        label(bbox=[0, 0, 52, 42]),  # next to nothing
        label(bbox=[0, 0, 52, 42], iscrowd=1),
        label(bbox=[0, 0, 120, 90]),  # less than a quarter of it, and all of the tile
        label(bbox=[60, 60, 20, 10, 30], bbox_mode=BoxMode.XYWHA_ABS),
        label(bbox=[48, 60, 20, 10, 30], bbox_mode=BoxMode.XYWHA_ABS),  # the middle lies outside
        label(bbox=[0, 0, 10, 10]),
    ]
    found = labels_in(annos, tile)
    assert [f["bbox"] for f in found] == [
        [0, 5, 30, 20], [0, 0, 2, 2], [0, 0, 50, 50], [10, 20, 20, 10, 30],
    ]  # fmt: skip
    assert found[0]["keypoints"] == [0, 0, 0, 10, 10, 2]
    assert found[1]["iscrowd"] == 1
    assert labels_in([], tile) == []
    assert annos[0]["bbox"] == [40, 45, 80, 60]


def test_window_of_an_encoded_mask_without_its_bitmap() -> None:
    rng = np.random.default_rng(3)
    mask = rng.random((31, 47)) < 0.4
    np.testing.assert_array_equal(decode_window(encode(mask), 5, 3, 30, 28), mask[3:28, 5:30])
    placed = join_placed([encode(mask)], [(9, 4)], (60, 70))
    whole = np.zeros((60, 70), dtype=bool)
    whole[4:35, 9:56] = mask
    assert placed == encode(whole)
    far = join_placed([encode(mask)], [(19_000, 20_000)], (21_000, 20_000))  # 420 million pixels
    np.testing.assert_array_equal(decode_window(far, 19_000, 20_000, 19_047, 20_031), mask)
    with pytest.raises(ValueError, match="leaves"):
        join_placed([encode(mask)], [(50, 0)], (60, 70))
    with pytest.raises(ValueError, match="2\\^31"):
        join_placed([encode(mask)], [(50, 0)], (60_000, 70_000))


@pytest.mark.parametrize("seed", range(20))
def test_union_of_placed_masks(seed: int) -> None:
    rng = np.random.default_rng(seed)
    size = (int(rng.integers(1, 40)), int(rng.integers(1, 40)))
    whole, masks, corners = np.zeros(size, dtype=bool), [], []
    for _ in range(int(rng.integers(0, 5))):
        y0, x0 = (int(rng.integers(0, s)) for s in size)
        h, w = int(rng.integers(0, size[0] - y0 + 1)), int(rng.integers(0, size[1] - x0 + 1))
        mask = rng.random((h, w)) < rng.choice([0.0, 0.3, 0.9, 1.0])
        whole[y0 : y0 + h, x0 : x0 + w] |= mask
        masks.append(encode(mask))
        corners.append((x0, y0))
    assert join_placed(masks, corners, size) == encode(whole)


def large_images(folder: Path) -> Dataset:
    records = []
    for i in range(2):
        rgb = np.random.default_rng(i).integers(0, 255, (HEIGHT, WIDTH, 3)).astype(np.uint8)
        Image.fromarray(rgb).save(folder / f"{i}.png")
        annos = [label(bbox=[10, 10, 30, 30]), label(bbox=[100, 70, 115, 85])]
        records.append(
            {
                "file_name": str(folder / f"{i}.png"),
                "image_id": i,
                "height": HEIGHT,
                "width": WIDTH,
                "annotations": annos,
            }
        )
    return Dataset(records, {"thing_classes": ["a", "b"]}, file="labels.json")


def test_a_data_set_of_tiles(tmp_path: Path) -> None:
    whole = large_images(tmp_path)
    options = TileOptions(tile=50, overlap=0.2)
    tiles = cut_dataset(whole, tmp_path / "tiles", options)
    assert len(tiles.records) == 2 * len(tile_grid(HEIGHT, WIDTH, 50, 0.2)) and tiles.file is None
    assert sum(len(r["annotations"]) for r in tiles.records) >= 4
    for r in tiles.records:
        x, y = (int(v) for v in Path(r["file_name"]).stem.split("_")[-2:])
        source = np.asarray(Image.open(tmp_path / f"{Path(r['file_name']).parent.name}.png"))
        np.testing.assert_array_equal(np.asarray(Image.open(r["file_name"])), source[y : y + 50, x : x + 50])
    assert [r["image_id"] for r in tiles.records] == list(range(1, len(tiles.records) + 1))
    few = cut_dataset(whole, tmp_path / "few", options, empty=0.5)
    filled = sum(bool(r["annotations"]) for r in few.records)
    assert len(few.records) - filled == 2 * round(0.5 * filled / 2)


def test_finished_tiles_are_not_written_again(tmp_path: Path) -> None:
    whole = large_images(tmp_path)
    options = TileOptions(tile=50, overlap=0.2)
    files = [Path(r["file_name"]) for r in cut_dataset(whole, tmp_path / "tiles", options).records]
    before = [f.stat().st_mtime_ns for f in files]
    files[0].unlink()
    cut_dataset(whole, tmp_path / "tiles", options)
    assert [f.stat().st_mtime_ns for f in files[1:]] == before[1:] and files[0].is_file()
    Image.new("RGB", (WIDTH, HEIGHT)).save(tmp_path / "0.png")  # another picture
    cut_dataset(whole, tmp_path / "tiles", options)
    assert np.asarray(Image.open(files[1])).max() == 0


def test_what_cannot_be_cut_is_refused(tmp_path: Path) -> None:
    whole = large_images(tmp_path)
    whole.records[1]["sem_seg_file_name"] = "x.png"
    with pytest.raises(ValueError, match="label maps"):
        cut_dataset(whole, tmp_path / "tiles", TileOptions(50))
    del whole.records[1]["sem_seg_file_name"]
    whole.records[1]["height"] += 1
    with pytest.raises(ValueError, match="labels are for"):
        cut_dataset(whole, tmp_path / "tiles", TileOptions(50))
