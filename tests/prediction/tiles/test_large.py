"""Large images from the file to objects: any model, resumed, in order, and in the files that are written."""

from __future__ import annotations

import io
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from detectron2.data import Metadata
from detectron2.data.tiles import GeoReference, Tile, TileOptions, tile_grid
from detectron2.prediction import Predictor
from detectron2.prediction.backends import Prepared
from detectron2.prediction.tiles import (
    LargePrediction,
    Pieces,
    TiledModel,
    TiledPredictor,
    class_areas,
    coco_objects,
    draw_small,
    geojson,
    pieces_of,
    write_geojson,
)
from detectron2.prediction.tiles.labels import cores_of
from detectron2.prediction.tiles.pieces import Crop, crop_of
from detectron2.structures import Boxes, Instances
from detectron2.structures.rle import decode
from detectron2.utils.errors import UserError

HEIGHT, WIDTH = 150, 230


class ByColor:
    """A faultless model: each colour other than black is one object, and its red value the class.

    It stands for a ``Predictor``, whose parts that are used here it has.
    """

    def __init__(self, batch_size: int = 3) -> None:
        self.batch_size = batch_size
        self.scores, self.classes, self.metadata = 0.5, None, Metadata(name="colors")
        self.backend = SimpleNamespace(prepare=lambda rgb: Prepared(rgb, (3, *rgb.shape[:2])))
        self.calls: list[int] = []
        self.most = 10**9

    def run_prepared(self, batch: list[Prepared]) -> list[dict[str, Any]]:
        if sum(self.calls) + len(batch) > self.most:
            raise KeyboardInterrupt
        self.calls.append(len(batch))
        return [{"instances": self.find(p.data)} for p in batch]

    def find(self, rgb: np.ndarray) -> Instances:
        colors = [c for c in np.unique(rgb.reshape(-1, 3), axis=0) if c.any()]
        masks = np.array([(rgb == c).all(2) for c in colors], dtype=bool).reshape(-1, *rgb.shape[:2])
        boxes = [crop_of(m, Tile(0, 0, rgb.shape[1], rgb.shape[0])).window for m in masks]
        found = Instances(rgb.shape[:2], pred_masks=torch.from_numpy(masks))
        found.pred_boxes = Boxes(torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4))
        found.scores = torch.tensor([0.5 + c[1] / 1000 for c in colors], dtype=torch.float32)
        found.pred_classes = torch.tensor([int(c[0]) % 2 for c in colors], dtype=torch.int64)
        return found


@pytest.fixture
def scene(tmp_path: Path) -> tuple[Path, np.ndarray]:
    rng = np.random.default_rng(5)
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    ys, xs = np.mgrid[:HEIGHT, :WIDTH]
    for number in range(25):
        disc = (ys - rng.uniform(0, HEIGHT)) ** 2 + (xs - rng.uniform(0, WIDTH)) ** 2 < rng.uniform(
            3, 35
        ) ** 2
        if not image[disc].any():
            image[disc] = (40 + number, 10 * number, 99)
    path = tmp_path / "scene.png"
    Image.fromarray(image).save(path)
    return path, image


def test_objects_of_an_image_are_those_that_its_pixels_show(scene: tuple[Path, np.ndarray]) -> None:
    path, image = scene
    model: Any = ByColor()
    large = TiledPredictor(model, TileOptions(70, 0.25))
    found = large(path)
    expected = ByColor().find(image)
    assert len(found) == len(expected) > 10
    assert found.num_tiles == len(tile_grid(HEIGHT, WIDTH, 70, 0.25)) and found.size == (HEIGHT, WIDTH)
    whole = found.instances()
    masks = [decode(rle) for rle in whole.pred_rle]
    key = lambda m: m.tobytes()  # noqa: E731
    assert sorted(map(key, masks)) == sorted(map(key, expected.pred_masks.numpy()))
    for mask, box, entry in zip(masks, whole.pred_boxes.tensor, coco_objects(found)):
        ys, xs = np.nonzero(mask)
        assert box.tolist() == [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]
        assert entry["bbox"][2:] == [xs.max() + 1 - xs.min(), ys.max() + 1 - ys.min()]
        np.testing.assert_array_equal(decode(entry["segmentation"]), mask)
        assert entry["class"] == str(entry["category_id"])
    assert model.calls[:-1] == [3] * (len(model.calls) - 1)  # whole batches
    assert TiledModel(large)([{"file_name": str(path)}])[0]["instances"].pred_rle == whole.pred_rle


def test_finished_tiles_are_not_predicted_again(scene: tuple[Path, np.ndarray], tmp_path: Path) -> None:
    path, _ = scene
    options = TileOptions(70, 0.25)
    expected = TiledPredictor(ByColor(), options)(path)  # type: ignore[arg-type]
    broken: Any = ByColor()
    broken.most = 7
    with pytest.raises(KeyboardInterrupt):
        TiledPredictor(broken, options, folder=tmp_path / "kept")(path)
    (file,) = (tmp_path / "kept").iterdir()
    file.write_bytes(file.read_bytes()[:-5])  # the last tile was not written to its end
    model: Any = ByColor()
    resumed = TiledPredictor(model, options, folder=tmp_path / "kept")(path)
    assert resumed.num_reused == 5 and sum(model.calls) == expected.num_tiles - 5
    assert resumed.instances().pred_rle == expected.instances().pred_rle
    assert np.array_equal(resumed.found.boxes, expected.found.boxes)
    again: Any = ByColor()
    assert TiledPredictor(again, options, folder=tmp_path / "kept")(path).num_reused == expected.num_tiles
    assert not again.calls
    sure: Any = ByColor()
    sure.scores = 0.9
    assert TiledPredictor(sure, options, folder=tmp_path / "kept")(path).num_reused == 0
    assert TiledPredictor(sure, TileOptions(70, 0.3), folder=tmp_path / "kept")(path).num_reused == 0


def test_what_gives_no_instances_is_refused(scene: tuple[Path, np.ndarray]) -> None:
    model: Any = ByColor()
    model.run_prepared = lambda batch: [{"proposals": 0} for _ in batch]
    with pytest.raises(
        UserError, match="proposals, and only instances, classes of pixels and panoptic segments can"
    ):
        TiledPredictor(model, TileOptions(70))(scene[0])
    model.run_prepared = lambda batch: [{"sem_seg": torch.zeros(2, 5, 5)} for _ in batch]
    with pytest.raises(UserError, match="sem_seg, and only instances can"):
        TiledPredictor(model, TileOptions(70), maps=False)(scene[0])


class ByBlue(ByColor):
    """Gives the class of each pixel, and finds objects or not; near the edges of a tile its classes are wrong."""

    def __init__(self, objects: bool) -> None:
        super().__init__()
        self.objects = objects
        self.metadata.set(stuff_classes=["ground", "thing"])

    def run_prepared(self, batch: list[Prepared]) -> list[dict[str, Any]]:
        outputs = super().run_prepared(batch)
        for prepared, output in zip(batch, outputs):
            thing = torch.from_numpy(prepared.data[:, :, 2] > 0).float()
            sure = torch.zeros_like(thing)
            sure[3:-3, 3:-3] = 1
            output["sem_seg"] = torch.stack([1 - thing, thing, 2 * (1 - sure)])
            if not self.objects:
                del output["instances"]
        return outputs


@pytest.mark.parametrize("objects", [True, False])
def test_class_maps_are_put_together(scene: tuple[Path, np.ndarray], tmp_path: Path, objects: bool) -> None:
    path, image = scene
    options = TileOptions(70, 0.25)
    broken: Any = ByBlue(objects)
    broken.most = 4
    with pytest.raises(KeyboardInterrupt):
        TiledPredictor(broken, options, folder=tmp_path / "kept")(path)
    model: Any = ByBlue(objects)
    found = TiledPredictor(model, options, folder=tmp_path / "kept")(path)
    assert found.num_reused == 3 and (len(found) > 10) == objects
    assert found.labels is not None and found.labels.dtype == np.uint8
    inside = slice(3, -3), slice(3, -3)  # seams are in the middle of what two tiles see, far from their edges
    np.testing.assert_array_equal(found.labels[inside], image[inside][:, :, 2] > 0)
    assert (found.labels[:3] == 2).all()
    areas = list(class_areas(found.labels, found.metadata))
    assert [a[:2] for a in areas] == [(0, "ground"), (1, "thing"), (2, "2")]
    assert sum(a[2] for a in areas) == HEIGHT * WIDTH
    drawn = draw_small(found, image[::2, ::2], found.metadata).get_image()
    assert drawn.shape == (HEIGHT // 2, WIDTH // 2, 3) and (drawn != image[::2, ::2]).any()
    assert TiledPredictor(ByColor(), options)(path).labels is None  # type: ignore[arg-type]


class Panoptic(ByColor):
    """Gives panoptic segments, numbered anew in each tile: the objects, sky above row 60, and below it grass."""

    def run_prepared(self, batch: list[Prepared]) -> list[dict[str, Any]]:
        found = []
        for output, prepared in zip(super().run_prepared(batch), batch):
            things, rows = output["instances"], prepared.data[:, :, 2] // 200
            ids = torch.from_numpy(1 + rows.astype(np.int32))
            info: list[Any] = [{"id": k + 1, "category_id": k + 4, "isthing": False} for k in np.unique(rows)]
            for k in range(len(things)):
                ids[things.pred_masks[k]] = 10 + k
                score, label = float(things.scores[k]), int(things.pred_classes[k])
                info.append({"id": 10 + k, "category_id": label, "isthing": True, "score": score})
            found.append({"panoptic_seg": (ids, info)})
        return found

    def find(self, rgb: np.ndarray) -> Instances:
        return super().find(np.where(rgb[:, :, :1] > 0, rgb, np.uint8(0)))


def test_panoptic_segments_are_put_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    image[60:, :, 2] = 200
    image[40:110, 30:200] = (1, 90, 0)  # in many tiles
    image[100:130, 150:190] = (2, 200, 0)  # covers a part of the first
    image[5:15, 5:15] = (2, 100, 0)
    path = tmp_path / "a.png"
    Image.fromarray(image).save(path)
    broken: Any = Panoptic()
    broken.most = 4
    with pytest.raises(KeyboardInterrupt):
        TiledPredictor(broken, TileOptions(70, 0.3), folder=tmp_path)(path)
    model: Any = Panoptic()
    found = TiledPredictor(model, TileOptions(70, 0.3), folder=tmp_path)(path)
    assert found.num_reused == 3 and len(found) == 0 and found.labels is None
    assert found.panoptic is not None and found.panoptic.ids.dtype == np.uint16
    colors = {}
    for s in found.panoptic.segments:
        pixels = image[found.panoptic.ids == s["id"]]
        (color,) = np.unique(pixels, axis=0)
        colors[tuple(color.tolist())] = s
        assert s["area"] == len(pixels) == (image == color).all(2).sum()
    assert len(colors) == len(found.panoptic.segments) == 5
    assert not colors[0, 0, 0]["isthing"] and colors[0, 0, 0]["category_id"] == 4
    assert not colors[0, 0, 200]["isthing"] and colors[0, 0, 200]["category_id"] == 5
    for color in ((1, 90, 0), (2, 200, 0), (2, 100, 0)):
        assert colors[color]["isthing"] and colors[color]["category_id"] == color[0] % 2
        assert colors[color]["score"] == pytest.approx(0.5 + color[1] / 1000)
    drawn = draw_small(found, image[::2, ::2], found.metadata).get_image()
    assert (drawn != image[::2, ::2]).any()
    monkeypatch.setattr("detectron2.prediction.tiles.segments._MOST", 7)
    many = TiledPredictor(model, TileOptions(70, 0.3))(path).panoptic
    assert many is not None and many.ids.dtype == np.uint32 and np.array_equal(many.ids, found.panoptic.ids)


@pytest.mark.parametrize(
    ("size", "tile", "overlap"), [((50, 90), 20, 0.5), ((7, 5), 9, 0.0), ((40, 40), 16, 0.9)]
)
def test_the_cores_of_tiles_cover_the_image_once(size: tuple[int, int], tile: int, overlap: float) -> None:
    tiles = tile_grid(*size, tile, overlap)
    covered = np.zeros(size, int)
    for whole, core in zip(tiles, cores_of(tiles), strict=True):
        assert core.shared(whole) == core
        covered[core.y0 : core.y1, core.x0 : core.x1] += 1
    assert (covered == 1).all()


def test_a_real_model_equals_its_own_predictions_of_the_tiles(tiny_file: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    small = Image.fromarray(rng.integers(0, 255, (12, 16, 3), dtype=np.uint8))
    image = np.asarray(small.resize((160, 120), Image.Resampling.BICUBIC))
    Image.fromarray(image).save(tmp_path / "a.png")
    predictor = Predictor(tiny_file, device="cpu", scores=0.2, batch_size=4, input_format="RGB")
    large = TiledPredictor(predictor, TileOptions(64, 0.25), folder=tmp_path)
    found = large(tmp_path / "a.png")
    tiles = tile_grid(120, 160, 64, 0.25)
    outputs = predictor([np.ascontiguousarray(image[t.y0 : t.y1, t.x0 : t.x1]) for t in tiles])
    pieces = [pieces_of(o["instances"].to("cpu"), i, t) for i, (o, t) in enumerate(zip(outputs, tiles))]
    assert 0 < len(found) <= sum(map(len, pieces))
    known = {tuple(np.round(b, 2)) for p in pieces for b in p.boxes}
    assert any(tuple(np.round(b, 2)) in known for b in found.found.boxes)
    assert found.instances().has("pred_rle")


# ------------------------------------------------------------------ files
def with_hole() -> LargePrediction:
    mask = np.zeros((40, 60), dtype=bool)
    mask[10:30, 10:40] = True
    mask[15:20, 20:30] = False
    mask[32:36, 50:55] = True  # a second part
    pieces = Pieces(
        tiles=np.zeros(1, np.int64),
        boxes=np.array([[10, 10, 55, 36]], np.float32),
        scores=np.array([0.75], np.float32),
        classes=np.array([1]),
        masks=(crop_of(mask, Tile(0, 0, 60, 40)),),
        keypoints=np.array([[[12.5, 13.5, 1.0]]], np.float32),
    )
    return LargePrediction("a.tif", (40, 60), pieces, metadata=Metadata(name="x", thing_classes=["a", "b"]))


def ring_area(ring: list[list[float]]) -> float:
    x, y = np.array(ring[:-1]).T
    assert ring[0] == ring[-1]
    return float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2


def test_geojson_lies_on_the_ground_with_holes_and_parts() -> None:
    geo = GeoReference("EPSG:32633", (0.5, 0.0, 500_000.0, 0.0, -0.5, 5_400_000.0))
    content = geojson(with_hole(), geo)
    assert content["crs"]["properties"]["name"] == "urn:ogc:def:crs:EPSG::32633"
    (feature,) = content["features"]
    assert feature["properties"] == {"class": "b", "category_id": 1, "score": 0.75}
    polygons = feature["geometry"]["coordinates"]
    assert feature["geometry"]["type"] == "MultiPolygon"
    areas = sorted([ring_area(r) for r in polygon] for polygon in polygons)
    assert areas == [[5.0], [150.0, -12.5]]  # square metres; outer rings counter-clockwise
    outer = np.array(max(polygons, key=len)[0])
    assert outer.min(0).tolist() == [500_005, 5_399_985] and outer.max(0).tolist() == [500_020, 5_399_995]
    text = io.StringIO()
    write_geojson(with_hole(), geo, text)
    assert json.loads(text.getvalue()) == content
    wkt = geojson(with_hole(), GeoReference("PROJCS[...]", geo.transform))
    assert wkt["crs"]["properties"]["name"] == "PROJCS[...]"


def test_keypoints_and_masks_as_coco_writes_them(monkeypatch: pytest.MonkeyPatch) -> None:
    (entry,) = coco_objects(with_hole())
    assert entry["keypoints"] == [12.0, 13.0, 1.0] and entry["bbox"] == [10, 10, 45, 26]
    assert decode(entry["segmentation"]).sum() == 600 - 50 + 20
    monkeypatch.setattr("detectron2.prediction.tiles.output._MOST_ENCODED", 100)
    (entry,) = coco_objects(with_hole())
    assert [len(p) for p in entry["segmentation"]] == [8, 8]


def test_the_small_picture_shows_the_objects(scene: tuple[Path, np.ndarray]) -> None:
    model: Any = ByColor()
    found = TiledPredictor(model, TileOptions(70, 0.25))(scene[0])
    small = np.asarray(Image.fromarray(scene[1]).resize((115, 75)))
    assert (draw_small(found, small, found.metadata).get_image() != small).any()
    boxes = Pieces(found.found.tiles, found.found.boxes, found.found.scores, found.found.classes)
    drawn = draw_small(LargePrediction("a", found.size, boxes), small, found.metadata)
    assert (drawn.get_image() != small).any()
    empty = LargePrediction("a", found.size, boxes.chosen([]))
    np.testing.assert_array_equal(draw_small(empty, small, found.metadata).get_image(), small)


def test_an_empty_mask_has_no_window() -> None:
    crop = crop_of(np.zeros((5, 5), dtype=bool), Tile(10, 10, 15, 15))
    assert crop == Crop(Tile(10, 10, 10, 10), "0") and not crop.within(Tile(0, 0, 20, 20)).any()
