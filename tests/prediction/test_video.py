"""Videos and cameras: what is read, what is written, what is broken."""

import sys

import numpy as np
import pytest

from detectron2.prediction import Predictor, video
from detectron2.prediction.annotated import AnnotatedVideo
from detectron2.prediction.sources import frames
from detectron2.prediction.video import frame_count, frame_rate, read_video
from detectron2.prediction.video_writer import VideoWriter, check_can_write, video_ending
from detectron2.utils.errors import UserError

from .films import damage, film, frame_of, sound_of

av = pytest.importorskip("av")

UNEVEN = [0.0, 0.04, 0.12, 0.2, 0.21, 0.5, 0.54]


def test_frames_come_with_their_time_stamps(tmp_path):
    path = film(tmp_path / "clip.mp4", UNEVEN)
    found = list(read_video(str(path)))
    assert [index for index, _, _ in found] == list(range(len(UNEVEN)))
    assert np.allclose([t for _, t, _ in found], UNEVEN, atol=1e-4)
    for index, _, image in found:
        assert image.shape == (48, 64, 3)
        assert np.abs(image.astype(int) - frame_of(index)).mean() < 6
    assert frame_count(str(path)) == len(UNEVEN) and frame_rate(str(path)) > 5


@pytest.mark.parametrize("ending", [".mp4", ".mkv", ".mov"])
def test_a_written_video_keeps_time_stamps_and_sound(tmp_path, ending):
    path = film(tmp_path / "clip.mp4", UNEVEN, sound=True)
    target = tmp_path / "out" / f"drawn{ending}"
    with VideoWriter(target, sound_of=str(path), rate=frame_rate(str(path))) as writer:
        for _, time, image in read_video(str(path)):
            writer.write(255 - image, time)
            assert not target.exists()
    assert [p.name for p in target.parent.iterdir()] == [target.name]
    found = list(read_video(str(target)))
    assert np.allclose([t for _, t, _ in found], UNEVEN, atol=2e-3)
    for index, _, image in found:
        assert np.abs(image.astype(int) - (255 - frame_of(index).astype(int))).mean() < 10
    before, after = sound_of(path), sound_of(target)
    assert len(before) > 7000 and abs(len(after) - len(before)) <= 1024
    if ending != ".mkv":  # where the silence that fills the coder's first block is not marked
        assert np.allclose(before[:4096], after[:4096], atol=1e-4)


def test_sound_ends_with_the_last_frame_and_may_be_missing(tmp_path):
    path = film(tmp_path / "clip.mp4", [k / 25 for k in range(25)], sound=True)
    for count, name in ((5, "short.mp4"), (0, "none.mp4")):
        with VideoWriter(tmp_path / name, sound_of=str(path), rate=25) as writer:
            for _, time, image in list(read_video(str(path)))[:count]:
                writer.write(image, time)
    assert 0.1 < len(sound_of(tmp_path / "short.mp4")) / 16000 < 0.35
    assert not (tmp_path / "none.mp4").exists() and not list(tmp_path.glob(".*"))
    silent = film(tmp_path / "silent.mp4", [0, 0.04])
    with VideoWriter(tmp_path / "s.mkv", sound_of=str(silent)) as writer:
        assert not writer.has_sound
        writer.write(frame_of(0), 0)


def test_odd_and_changing_sizes_and_times_that_do_not_grow(tmp_path):
    with VideoWriter(tmp_path / "odd.mp4", rate=10) as writer:
        for k, size in enumerate(((47, 63), (47, 63), (30, 90))):
            writer.write(frame_of(0, *size), min(k, 1) * 0.1)
    found = list(read_video(str(tmp_path / "odd.mp4")))
    assert [i.shape for _, _, i in found] == [(48, 64, 3)] * 3
    times = [t for _, t, _ in found]
    assert times == sorted(set(times))


def test_broken_frames_are_left_out_and_counted(tmp_path):
    whole = film(tmp_path / "whole.mkv", [k / 25 for k in range(20)], codec="mpeg4", every=1)
    path = damage(whole, tmp_path / "broken.mkv", 8)
    broken = []
    good = list(read_video(str(path), lambda number, error: broken.append(number)))
    assert len(broken) == 1 and len(good) == 19
    assert [n for n, _, _ in good] == [n for n in range(20) if n not in broken]
    with pytest.raises(ValueError, match=r"broken\.mkv, frame \d+"):
        list(read_video(str(path)))


def test_a_cut_off_video_gives_what_it_has(tmp_path):
    path = film(tmp_path / "clip.mkv", [k / 25 for k in range(50)])
    (tmp_path / "cut.mkv").write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    reasons = []
    found = list(frames(tmp_path / "cut.mkv", broken=lambda *why: reasons.append(why)))
    assert 5 < len(found) < 50


@pytest.mark.parametrize("content", [b"", b"\0\0\0\x18ftypisom", b"no video at all" * 99])
def test_files_that_are_no_video_are_named(tmp_path, content):
    path = tmp_path / "film.mp4"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"film\.mp4 is a video that"):
        list(read_video(str(path)))
    reasons = []
    assert (
        list(frames([path, frame_of(0)], broken=lambda *why: reasons.append(why)))[-1].source == "picture 0"
    )
    assert [(source, frame) for source, frame, _ in reasons] == [(str(path), None)]


def test_turned_videos_are_upright(monkeypatch):
    class Turned:
        rotation = -90

        def to_ndarray(self, format):
            return frame_of(0)

    assert np.array_equal(video._upright(Turned()), np.rot90(frame_of(0), -1))


def test_what_cannot_be_written_is_known_before(tmp_path):
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder.mp4").mkdir()
    for name, message in (
        ("a.gif", "must end in"),
        ("file/a.mp4", "cannot be written"),
        ("folder.mp4", "is a folder"),
    ):
        with pytest.raises(UserError, match=message):
            check_can_write(tmp_path / name)
    check_can_write(tmp_path / "new" / "a.mp4")
    assert list((tmp_path / "new").iterdir()) == []
    assert [video_ending(n) for n in ("a.mp4", "b.MOV", "c.avi", "camera:0")] == [
        ".mp4",
        ".mp4",
        ".mkv",
        ".mp4",
    ]


def test_without_pyav_the_extra_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(UserError, match=r"detectron2\[video\]"):
        list(frames(tmp_path / "a.mp4") if (tmp_path / "a.mp4").write_bytes(b"x") else [])


class FakeCamera:
    """An OpenCV camera that ends after three pictures."""

    released = 0

    def __init__(self, number):
        self.left = 3 if number == 0 else 0
        self.there = number == 0

    def isOpened(self):
        return self.there

    def read(self):
        self.left -= 1
        return self.left >= 0, frame_of(self.left)[:, :, ::-1] if self.left >= 0 else None

    def release(self):
        FakeCamera.released += 1


def test_a_camera_that_ends_early_ends_the_stream(monkeypatch, caplog):
    cv2 = pytest.importorskip("cv2")
    monkeypatch.setattr(cv2, "VideoCapture", FakeCamera)
    found = list(frames("camera:0"))
    assert [(f.source, f.index) for f in found] == [("camera:0", k) for k in range(3)]
    assert np.array_equal(found[0].image, frame_of(2))
    assert "no more pictures, after 3" in caplog.text
    assert len(list(frames(0, most=2))) == 2 and FakeCamera.released == 2
    with pytest.raises(UserError, match="no camera 7"):
        list(frames("camera:7"))


def test_an_annotated_video_and_its_files(tiny_file, tmp_path):
    predictor = Predictor(tiny_file, device="cpu", scores=None, batch_size=3)
    path = film(tmp_path / "clip.mp4", UNEVEN, sound=True)
    out = AnnotatedVideo(
        str(path), tmp_path / "out/clip.mp4", predictor.metadata, tracker="BBoxIOUTracker", rate=25
    )
    with predictor.stream(path, max_frames=4) as stream:
        for found in stream:
            out.add(found)
    out.close()
    record = out.record()
    assert record["frames"] == 4 and record["num_objects"] == 40 and record["num_tracks"] >= 10
    assert len(list(read_video(str(tmp_path / "out/clip.mp4")))) == 4
    lines = (tmp_path / "out" / record["lines"]).read_text().splitlines()
    assert len(lines) == 4 and '"track_id"' in lines[0] and '"time": 0.12' in lines[2]
    assert len((tmp_path / "out" / record["mot"]).read_text().splitlines()) == 40
    assert len((tmp_path / "out" / record["tracks"]).read_text().splitlines()) == 41
