"""20,000 x 20,000 pixels from the command line in under 3 GB."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

SIDE = 20_000
PROGRAM = """
import sys
from detectron2.cli import main
status = main(sys.argv[1:])
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
sys.exit(status)
"""


def write_scene(path: Path) -> int:
    """Write a GeoTIFF strip by strip: noise, and coloured discs of up to 700 pixels in each square of 2,500; return their number."""
    rasterio: Any = pytest.importorskip("rasterio")
    transform = rasterio.Affine(0.3, 0, 500_000, 0, -0.3, 5_400_000)
    profile = {
        "driver": "GTiff",
        "count": 3,
        "height": SIDE,
        "width": SIDE,
        "dtype": "uint8",
        "crs": "EPSG:32633",
    }
    profile |= {"transform": transform, "tiled": True, "compress": "deflate", "zlevel": 1}
    step, rng = 2500, np.random.default_rng(0)
    pattern = rng.integers(90, 110, (step, step)).astype(np.uint8)
    ys, xs = np.mgrid[:step, :step]
    with rasterio.open(path, "w", **profile) as file:
        for top in range(0, SIDE, step):
            for left in range(0, SIDE, step):
                block = np.stack([pattern] * 3)
                y, x, r = rng.uniform(800, 1700, 2).tolist() + [rng.uniform(20, 350)]
                block[:, (ys - y) ** 2 + (xs - x) ** 2 < r * r] = rng.integers(0, 255, (3, 1))
                file.write(block, window=((top, top + step), (left, left + step)))
    return (SIDE // step) ** 2


@pytest.mark.slow
@pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="reads the peak of memory where Linux keeps it"
)
def test_a_large_scene_in_bounded_memory(tiny_file: Path, tmp_path: Path) -> None:
    write_scene(tmp_path / "scene.tif")
    output = tmp_path / "found"
    model = tmp_path / "few.yaml"
    model.write_text(tiny_file.read_text().replace("DETECTIONS_PER_IMAGE: 10", "DETECTIONS_PER_IMAGE: 2"))
    words = ["predict", str(model), str(tmp_path / "scene.tif"), "--tile", "1024", "--overlap", "0.2"]
    words += ["--weights", str(tiny_file.with_suffix(".pth")), "--output", str(output), "--device", "cpu"]
    words += ["--threshold", "0.1", "--batch-size", "4"]
    done = subprocess.run([sys.executable, "-c", PROGRAM, *words], check=True, capture_output=True, text=True)
    peak = int(done.stdout.splitlines()[-1]) / 1e6  # GB
    assert peak < 3
    (record,) = json.loads((output / "predictions.json").read_text())
    assert (record["height"], record["width"]) == (SIDE, SIDE) and len(record["objects"]) > 100
    assert all(o["segmentation"]["size"] == [SIDE, SIDE] for o in record["objects"])
    content = json.loads((output / "scene.geojson").read_text())
    assert content["crs"]["properties"]["name"].endswith("32633")
    assert len(content["features"]) == len(record["objects"])
    east = [p[0] for f in content["features"][:50] for p in _points(f["geometry"])]
    assert min(east) >= 500_000 and max(east) <= 500_000 + 0.3 * SIDE
    assert (output / "scene.jpg").is_file()


def _points(geometry: dict[str, Any]) -> list[list[float]]:
    polygons = geometry["coordinates"] if geometry["type"] == "MultiPolygon" else [geometry["coordinates"]]
    return [point for polygon in polygons for ring in polygon for point in ring]
