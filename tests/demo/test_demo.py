"""`demo/demo.py` from the command line."""

import runpy
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

# Untrained weights find discs nowhere in particular; at threshold 0 there is always something to draw.
DEMO = Path(__file__).parents[2] / "demo"
SHOW_ALL = ("--confidence-threshold", "0.0")


def differs(path, original):
    """Whether something was drawn into a picture, scaled or not."""
    drawn, plain = Image.open(path).convert("RGB"), Image.open(original).convert("RGB")
    return drawn.size == plain.size and np.abs(np.float32(drawn) - np.float32(plain)).max() > 60


def test_pictures_into_a_folder(tiny_yaml, datasets_root, tmp_path, monkeypatch, capsys):
    pictures = sorted((datasets_root / "coco/val2017").iterdir())[:2]
    out = tmp_path / "drawn"
    words = [
        "demo.py", "--config-file", tiny_yaml, "--input", *pictures, "--output", out, *SHOW_ALL,
        "--opts", "MODEL.DEVICE", "cpu", "TEST.DETECTIONS_PER_IMAGE", 3,
    ]  # fmt: skip
    monkeypatch.setattr("sys.argv", [str(word) for word in words])
    monkeypatch.syspath_prepend(DEMO)
    runpy.run_path(str(DEMO / "demo.py"), run_name="__main__")
    log = capsys.readouterr().out
    assert sorted(p.name for p in out.iterdir()) == [p.name for p in pictures]
    assert all(differs(out / p.name, p) for p in pictures)
    assert log.count("3 instances in") == 2


@pytest.mark.slow
def test_python_config_pattern_and_one_file(run_tool, tiny_py, datasets_root, tmp_path):
    folder, out = datasets_root / "coco/val2017", tmp_path / "drawn.png"
    run_tool("demo/demo.py", "--config-file", tiny_py, "--input", f"{folder}/*1.jpg", "--output", out, *SHOW_ALL,
             "--opts", "train.device=cpu", "model.max_detections_per_image=5")  # fmt: skip
    assert differs(out, folder / "000000000001.jpg")


@pytest.mark.slow
def test_video_keeps_its_frames(run_tool, tiny_yaml, tmp_path):
    cv2 = pytest.importorskip("cv2")
    source, out = tmp_path / "in.avi", tmp_path / "out"
    writer = cv2.VideoWriter(str(source), cv2.VideoWriter_fourcc(*"MJPG"), 10.0, (80, 64))
    if not writer.isOpened():
        pytest.skip("this OpenCV writes no MJPG")
    for i in range(4):
        writer.write(np.full((64, 80, 3), 40 * i, np.uint8))
    writer.release()
    out.mkdir()
    run_tool("demo/demo.py", "--config-file", tiny_yaml, "--video-input", source, "--output", out, *SHOW_ALL)
    (written,) = out.iterdir()
    video = cv2.VideoCapture(str(written))
    frames = 0
    while video.read()[0]:
        frames += 1
    assert frames == 4


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "message"),
    [((), "exactly one of --input"), (("--input", "absent/*.jpg"), "absent/*.jpg")],
)
def test_input_that_is_not_there(run_tool, tiny_yaml, arguments, message):
    assert message in run_tool("demo/demo.py", "--config-file", tiny_yaml, *arguments, expect=1)
