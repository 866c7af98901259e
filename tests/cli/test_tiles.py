"""Training, evaluation and prediction on tiles of large images, from the command line."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from detectron2.cli import main
from detectron2.cli.commands.predict_tiles import predict_tiles
from detectron2.data import Metadata
from detectron2.data.tiles import TileOptions, tile_grid
from detectron2.prediction.backends import Prepared
from detectron2.utils.errors import UserError

from .conftest import TINY

HEIGHT, WIDTH = 150, 190


def large_discs(folder: Path, count: int = 5) -> Path:
    """A COCO json with images of 150x190 pixels with discs, the largest of which fits no tile of 64 pixels."""
    rng = np.random.default_rng(1)
    (folder / "images").mkdir(parents=True)
    images, annotations = [], []
    for i in range(1, count + 1):
        picture = Image.new("RGB", (WIDTH, HEIGHT), "white")
        for r in (45, 12, 9, 9):
            x, y = float(rng.uniform(r, WIDTH - r)), float(rng.uniform(r, HEIGHT - r))
            ImageDraw.Draw(picture).ellipse((x - r, y - r, x + r, y + r), fill="red" if r > 9 else "blue")
            angles = np.linspace(0, 2 * np.pi, 24, endpoint=False)
            outline = np.stack([x + r * np.cos(angles), y + r * np.sin(angles)], 1).ravel().tolist()
            annotations.append(
                {"id": len(annotations) + 1, "image_id": i, "category_id": 3 if r > 9 else 7, "iscrowd": 0, "area": 3.14 * r * r,
                 "bbox": [x - r, y - r, 2 * r, 2 * r], "segmentation": [outline]}
            )  # fmt: skip
        picture.save(folder / "images" / f"{i}.png")
        images.append({"id": i, "file_name": f"{i}.png", "width": WIDTH, "height": HEIGHT})
    path = folder / "large.json"
    categories = [{"id": 3, "name": "red"}, {"id": 7, "name": "blue"}]
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return path


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return large_discs(tmp_path_factory.mktemp("large"))


@pytest.fixture(scope="module")
def trained(data: Path) -> Path:
    """A run that has learned from tiles for two steps."""
    config = data.parent / "tiny.yaml"
    config.write_text(TINY)
    run = data.parent / "run"
    words = ["train", "--train", str(data), "--model", str(config), "--output", str(run), "--device", "cpu"]
    length = ["SOLVER.MAX_ITER", "2", "SOLVER.CHECKPOINT_PERIOD", "1"]
    assert main([*words, "--workers", "0", "--tile", "64", "--overlap", "0.25", *length]) == 0
    return run


def test_a_run_learns_from_tiles_and_is_judged_on_whole_images(trained: Path) -> None:
    card = json.loads((trained / "run.json").read_text())
    assert card["tiles"] == {"tile": 64, "overlap": 0.25, "bands": None, "value_range": None}
    each = len(tile_grid(HEIGHT, WIDTH, 64, 0.25))
    assert card["val"]["num_images"] == 1 and card["val_tiles"]["num_images"] == each
    train = json.loads((trained / card["train"]["json"]).read_text())
    assert 4 < len(train["images"]) <= 4 * each
    assert {(i["width"], i["height"]) for i in train["images"]} == {(64, 64)}
    parts = {role: {p.name for p in (trained / "tiles" / role).iterdir()} for role in ("train", "val")}
    assert len(parts["train"]) == 4 and len(parts["val"]) == 1 and not parts["train"] & parts["val"]
    found = json.loads((trained / "inference" / "coco_instances_results.json").read_text())
    assert {tuple(f["segmentation"]["size"]) for f in found} == {(HEIGHT, WIDTH)}
    assert found
    assert json.loads((trained / "summary.json").read_text())["images"] == 1
    assert (trained / "report.html").is_file() and (trained / "model_best.pth").is_file()
    config = (trained / "config.yaml").read_text()
    assert "MIN_SIZE_TEST: 64" in config and "FILTER_EMPTY_ANNOTATIONS: false" in config


@pytest.mark.slow
def test_eval_takes_the_tiles_of_the_run_and_others(trained: Path, data: Path, tmp_path: Path) -> None:
    figures = []
    for words in ([], ["--tile", "64"], ["--resume"], ["--tile", "100", "--overlap", "0.3"], ["--tile", "0"]):
        output = tmp_path / ("eval" if len(words) < 2 else "eval" + words[1])
        assert main(["eval", str(trained), "--output", str(output), "--device", "cpu", *words]) == 0
        figures.append(json.loads((output / "summary.json").read_text()))
    assert figures[0]["box_AP"] == figures[1]["box_AP"] == figures[2]["box_AP"]
    assert json.loads((tmp_path / "eval0" / "run.json").read_text())["tiles"] is None
    assert (
        main(
            ["eval", str(trained), "--data", str(data), "--output", str(tmp_path / "all"), "--device", "cpu"]
        )
        == 0
    )
    assert json.loads((tmp_path / "all" / "summary.json").read_text())["images"] == 5


@pytest.mark.slow
def test_predict_takes_the_tiles_of_the_run_and_goes_on_behind_finished_ones(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rasterio = pytest.importorskip("rasterio")
    rgb = np.asarray(Image.open(trained.parent / "images" / "1.png"))
    profile = {
        "driver": "GTiff",
        "count": 3,
        "height": HEIGHT,
        "width": WIDTH,
        "dtype": "uint8",
        "crs": "EPSG:32633",
    }
    transform = rasterio.Affine(0.5, 0, 500_000, 0, -0.5, 5_400_000)
    with rasterio.open(tmp_path / "scene.tif", "w", transform=transform, **profile) as file:
        file.write(rgb.transpose(2, 0, 1))
    (tmp_path / "broken.tif").write_text("no picture")
    output = tmp_path / "found"
    words = [
        "predict",
        str(trained),
        str(tmp_path / "scene.tif"),
        str(tmp_path / "broken.tif"),
        "--device",
        "cpu",
    ]
    words += ["--threshold", "0.05", "--output", str(output), "--batch-size", "4"]
    results = []
    for _ in range(2):
        assert main(words) == 0
        assert "in 1 images, 1 skipped" in capsys.readouterr().out
        results.append((output / "predictions.json").read_text())
        (record,) = json.loads(results[-1])
        assert (record["height"], record["width"], record["picture"]) == (HEIGHT, WIDTH, "scene.jpg")
        assert (output / "scene.jpg").is_file() and (output / "tiles" / "scene.tiles").is_file()
        content = json.loads((output / "scene.geojson").read_text())
        assert len(content["features"]) == len(record["objects"]) > 0
        assert all(o["class"] in ("red", "blue") and "segmentation" in o for o in record["objects"])
    assert results[0] == results[1]
    assert main([*words, "--tile", "0"]) == 0
    with Image.open(output / "scene.jpg") as picture:
        assert picture.width > WIDTH  # the usual picture, which is enlarged
    with pytest.raises(UserError, match="image files"):
        predict_tiles(None, ["a.mp4"], tmp_path, TileOptions(), logging.getLogger())  # type: ignore[arg-type]


def test_options_of_tiles_are_checked(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["train", "--train", str(data), "--output", str(tmp_path / "run")]
    for more, text in (
        (["--overlap", "0.3"], "--tile"),
        (["--tile", "64", "--overlap", "1.5"], "overlap"),
        (["--tile", "-3"], "tile"),
        (["--tile", "64", "--empty-tiles", "-1"], "--empty-tiles"),
    ):
        assert main([*words, *more]) == 2
        assert text in capsys.readouterr().err
        assert not (tmp_path / "run").exists()


class TwoHalves:
    """A semantic model: what is brighter is the second class."""

    batch_size, scores, classes = 2, None, None
    metadata = Metadata(name="halves").set(stuff_classes=["dark", "bright"])
    backend = SimpleNamespace(prepare=lambda rgb: Prepared(rgb, (3, *rgb.shape[:2])))

    def run_prepared(self, batch: list[Prepared]) -> list[dict[str, torch.Tensor]]:
        bright = [torch.from_numpy(p.data[:, :, 0] > 99).float() for p in batch]
        return [{"sem_seg": torch.stack([1 - b, b])} for b in bright]


def test_class_maps_are_written(tmp_path: Path) -> None:
    picture = np.zeros((90, 120, 3), np.uint8)
    picture[30:, 50:] = 200
    Image.fromarray(picture).save(tmp_path / "a.png")
    model: Any = TwoHalves()
    out, options = tmp_path / "out", TileOptions(64, 0.25)
    assert (
        predict_tiles(
            model, {str(tmp_path / "a.png"): "a"}, out / "predictions.json", options, logging.getLogger()
        )
        == 0
    )
    (record,) = json.loads((out / "predictions.json").read_text())
    labels = np.asarray(Image.open(out / record["labels"]))
    np.testing.assert_array_equal(labels, picture[:, :, 0] > 99)
    assert record["regions"] == [
        {"category_id": 0, "class": "dark", "area": 90 * 120 - 60 * 70},
        {"category_id": 1, "class": "bright", "area": 60 * 70},
    ]
    assert record["objects"] == [] and (out / record["picture"]).is_file()
