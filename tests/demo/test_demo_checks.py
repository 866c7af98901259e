"""`demo/demo.py` says what is wrong with its output before it builds a model."""

import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

DEMO = Path(__file__).parents[2] / "demo/demo.py"


@pytest.fixture
def run(monkeypatch, tmp_path):
    """Runs the program with a config that is not there, which is found out only when the model is built."""

    def run(*words):
        monkeypatch.syspath_prepend(str(DEMO.parent))
        monkeypatch.setattr(sys, "argv", ["demo.py", "--config-file", "absent.yaml", *map(str, words)])
        try:
            with pytest.raises((SystemExit, OSError)) as stop:
                runpy.run_path(str(DEMO), run_name="__main__")
        finally:
            sys.modules.pop("predictor", None)
        return str(stop.value)

    monkeypatch.setitem(sys.modules, "cv2", None)  # an import of it fails
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (8, 8)).save("a.png")
    Image.new("RGB", (8, 8)).save("b.png")
    (tmp_path / "file").write_text("x")
    return run


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "exactly one of"),
        (("--webcam", "--input", "a.png"), "exactly one of"),
        (("--input", "c*.png"), "matches, c*.png"),
        (("--input", "a.png", "--output", "drawn.xyz"), "ending of a picture"),
        (("--input", "a.png", "--output", "file/drawn.png"), "cannot be written"),
        (("--input", "a.png", "b.png", "--output", "file"), "cannot be written"),
        (("--input", "a.png", "b.png", "--output", "new"), "absent.yaml"),
        (("--input", "a.png", "--output", "new/drawn.png"), "absent.yaml"),
        (("--input", "a.png", "--confidence-threshold", "7"), "2"),  # argparse's status
        (("--input", "a.png"), "a window needs OpenCV"),
        (("--video-input", "a.png"), "a window needs OpenCV"),
        (("--video-input", "absent.mp4"), "no video file absent.mp4"),
        (("--video-input", "a.png", "--output", "file"), "exists already"),
        (("--video-input", "a.png", "--output", "drawn.gif"), "must end in"),
        (("--video-input", "file", "--output", "drawn.mp4"), "file is a video that"),
        (("--webcam", "--output", "file/drawn.mp4"), "cannot be written"),
    ],
)
def test_what_is_wrong_is_said_at_once(run, words, message):
    pytest.importorskip("av")
    assert message in run(*words)


def test_frames_of_a_camera_are_written_with_their_times(monkeypatch, tmp_path):
    av = pytest.importorskip("av")
    monkeypatch.syspath_prepend(str(DEMO.parent))
    demo = runpy.run_path(str(DEMO))
    sys.modules.pop("predictor", None)

    class Turned:
        def run_on_video(self, video):
            return (255 - frame for frame in video)

    pictures = ((k, t, np.full((16, 32, 3), 40 * k, np.uint8)) for k, t in enumerate((0, 0.5, 0.7)))
    assert demo["run_on_frames"](Turned(), pictures, str(tmp_path / "out.mp4"), None) == 3
    with av.open(str(tmp_path / "out.mp4")) as container:
        found = [
            (round(f.time, 3), round(float(f.to_ndarray(format="rgb24").mean())))
            for f in container.decode(video=0)
        ]
    assert [t for t, _ in found] == [0, 0.5, 0.7]
    assert all(abs(value - (255 - 40 * k)) < 6 for k, (_, value) in enumerate(found))
