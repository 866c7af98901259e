"""``detectron2 predict`` from the command line: pictures and videos in, pictures, videos and tables out."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from detectron2.cli import main
from detectron2.config import get_cfg
from detectron2.modeling import build_model

from ..prediction.conftest import picture
from ..prediction.films import film, sound_of
from .conftest import TINY

av = pytest.importorskip("av")

PANOPTIC = """
VERSION: 2
MODEL:
  META_ARCHITECTURE: PanopticFPN
  MASK_ON: true
  PIXEL_STD: [57.375, 57.12, 58.395]
  BACKBONE: {NAME: build_resnet_fpn_backbone, FREEZE_AT: 0}
  RESNETS: {STEM_OUT_CHANNELS: 16, RES2_OUT_CHANNELS: 16, WIDTH_PER_GROUP: 8, NORM: BN, OUT_FEATURES: [res2, res3]}
  FPN: {IN_FEATURES: [res2, res3], OUT_CHANNELS: 16}
  ANCHOR_GENERATOR: {SIZES: [[16], [32], [64]]}
  RPN: {IN_FEATURES: [p2, p3, p4], POST_NMS_TOPK_TEST: 20}
  ROI_HEADS: {NAME: StandardROIHeads, IN_FEATURES: [p2, p3], NUM_CLASSES: 2, SCORE_THRESH_TEST: 0.0}
  ROI_BOX_HEAD: {NAME: FastRCNNConvFCHead, NUM_FC: 1, FC_DIM: 16, POOLER_RESOLUTION: 7}
  ROI_MASK_HEAD: {NAME: MaskRCNNConvUpsampleHead, NUM_CONV: 1, CONV_DIM: 8, POOLER_RESOLUTION: 14}
  SEM_SEG_HEAD: {IN_FEATURES: [p2, p3], NUM_CLASSES: 4, CONVS_DIM: 32}
  PANOPTIC_FPN: {COMBINE: {STUFF_AREA_LIMIT: 10, INSTANCES_CONFIDENCE_THRESH: 0.0}}
INPUT: {MIN_SIZE_TEST: 64}
TEST: {DETECTIONS_PER_IMAGE: 5}
"""
KINDS = {
    "instances": (TINY, ["objects"]),
    "panoptic": (PANOPTIC, ["objects", "segments", "regions"]),
    "semantic": (PANOPTIC.replace("PanopticFPN", "SemanticSegmentor"), ["regions"]),
    "proposals": (TINY.replace("GeneralizedRCNN", "ProposalNetwork"), ["proposals"]),
}


def model_file(folder: Path, text: str) -> Path:
    """A config and its random weights."""
    path = folder / "model.yaml"
    path.write_text(text)
    cfg = get_cfg()
    cfg.merge_from_file(str(path))
    cfg.MODEL.DEVICE = "cpu"
    torch.manual_seed(0)
    torch.save({"model": build_model(cfg).state_dict()}, folder / "model.pth")
    return path


def predict(folder: Path, *words: object, weights: str = "model.pth") -> int:
    common = ["--device", "cpu", "--output", str(folder / "out"), "--weights", str(folder / weights)]
    return main(["predict", *map(str, words), *common])


def records(folder: Path) -> list[dict]:
    return json.loads((folder / "out/predictions.json").read_text())


@pytest.mark.parametrize("kind", list(KINDS))
def test_every_kind_of_output_is_drawn_and_written(kind: str, tmp_path: Path) -> None:
    text, parts = KINDS[kind]
    model = model_file(tmp_path, text)
    Image.fromarray(picture(1)).save(tmp_path / "a.jpg", quality=95)
    clip = film(tmp_path / "b.mp4", [0, 0.04, 0.08])
    assert predict(tmp_path, model, tmp_path / "a.jpg", clip, "--threshold", 0) == 0
    still, moving = records(tmp_path)
    assert [p for p in ("objects", "segments", "regions", "proposals") if p in still] == parts
    for part in parts:
        assert still[part] and all("segmentation" in s for s in still[part] if part != "proposals")
    drawn = np.asarray(Image.open(tmp_path / "out" / still["picture"]))
    plain = Image.fromarray(picture(1)).resize(drawn.shape[1::-1])
    assert np.abs(drawn.astype(int) - np.asarray(plain)).max() > 60
    lines = [json.loads(line) for line in (tmp_path / "out" / moving["lines"]).read_text().splitlines()]
    assert [line["frame"] for line in lines] == [0, 1, 2] and parts[0] in lines[0]


def test_videos_are_followed_cut_and_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = model_file(tmp_path, TINY)
    (tmp_path / "in").mkdir()
    clip = film(tmp_path / "in/clip.mov", [k / 10 for k in range(6)], sound=True)
    Image.fromarray(picture(1)).save(tmp_path / "in/clip.jpg")
    (tmp_path / "in/broken.mp4").write_bytes(clip.read_bytes()[:200])
    words = ["--track", "BBoxIOUTracker", "--threshold", 0, "--limit", 4, "--batch-size", 2]
    assert predict(tmp_path, model, f"{tmp_path}/in/*", *words) == 0
    said = capsys.readouterr().out
    assert "in 1 images and 4 frames of 1 videos, 1 skipped" in said.splitlines()[-1]
    assert "broken.mp4 is a video that cannot be opened" in said and "frames/s" in said
    record = next(r for r in records(tmp_path) if "video" in r)
    assert (record["frames"], record["broken_frames"], record["video"]) == (4, 0, "clip.mp4")
    assert record["num_tracks"] > 0 and len(sound_of(tmp_path / "out/clip.mp4")) > 4000
    written = {p.name for p in (tmp_path / "out").iterdir()}
    assert written == {
        "predictions.json",
        "clip.jpg",
        "clip.mp4",
        "clip.jsonl",
        "clip.tracks.csv",
        "clip.mot.txt",
    }


def test_what_is_wrong_is_said_before_anything_is_computed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = model_file(tmp_path, TINY)
    clip = film(tmp_path / "clip.mp4", [0, 0.04])
    (tmp_path / "out").write_text("a file")
    for words, message in (
        ([clip], "cannot be written"),
        ([clip, "--track", "BoxTracker"], "did you mean|Did you mean"),
        ([tmp_path / "no*.jpg"], "no file matches"),
        ([], "name at least one"),
    ):
        assert predict(tmp_path, model, *words) == 2
        err = capsys.readouterr().err
        assert any(part in err for part in message.split("|")), err


def test_a_video_behind_track_is_an_input(tmp_path: Path) -> None:
    model = model_file(tmp_path, TINY)
    clip = film(tmp_path / "clip.mp4", [0, 0.04])
    assert predict(tmp_path, model, "--threshold", 0, "--track", clip) == 0
    assert records(tmp_path)[0]["num_tracks"] > 0


def test_a_model_that_is_not_there_is_named_before_the_pictures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    assert main(["predict", str(tmp_path / "runs" / "mine"), str(tmp_path / "empty")]) == 2
    said = capsys.readouterr().err
    assert str(tmp_path / "runs" / "mine") in said and "folder" in said


def test_shards_write_every_picture_once_into_one_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = model_file(tmp_path, TINY)
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        Image.fromarray(picture(1)).save(tmp_path / folder / "same.jpg")
    inputs = [tmp_path / "a", tmp_path / "b"]
    for part in range(3):  # the last one has nothing to do
        assert predict(tmp_path, model, *inputs, "--threshold", 0, "--shard", f"{part}/3") == 0
    lists = [json.loads((tmp_path / f"out/predictions-{part}-of-3.json").read_text()) for part in range(3)]
    assert [len(part) for part in lists] == [1, 1, 0]
    assert {r["file_name"] for part in lists for r in part} == {str(p / "same.jpg") for p in inputs}
    assert len({r["picture"] for part in lists for r in part}) == 2
    for wrong in ("3/3", "1", "a/2"):
        assert predict(tmp_path, model, *inputs, "--shard", wrong) == 2
        assert "0/4 for the first of four" in capsys.readouterr().err
