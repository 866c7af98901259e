"""`visualize_json_results.py`, `visualize_data.py`, and evaluation with test-time augmentation, from the command line."""

import json
import re

import numpy as np
import pytest
from PIL import Image

NAME = "coco_2017_val_100"


def pictures(folder):
    return {p.name: np.asarray(Image.open(p)).astype(int) for p in sorted(folder.iterdir())}


def is_drawn_on(picture, root, name):
    """Whether the picture differs from the image of this name by more than JPEG does."""
    with Image.open(root / "coco/val2017" / name) as image:
        plain = np.asarray(image.resize(picture.shape[1::-1])).astype(int)
    return (np.abs(picture - plain).max(-1) > 100).mean() > 0.01


@pytest.mark.slow
def test_json_results_beside_labels(run_tool, datasets_root, tmp_path):
    content = json.loads((datasets_root / "coco/annotations/instances_val2017_100.json").read_text())
    results = [
        {"image_id": a["image_id"], "category_id": a["category_id"], "bbox": a["bbox"], "score": 0.9 - 0.6 * (a["id"] % 2)}
        for a in content["annotations"]
    ]  # fmt: skip
    (tmp_path / "results.json").write_text(json.dumps(results))
    base = ("--input", tmp_path / "results.json", "--dataset", NAME)
    run_tool("tools/visualize_json_results.py", *base, "--output", tmp_path / "a")
    run_tool("tools/visualize_json_results.py", *base, "--output", tmp_path / "b", "--conf-threshold", "0.95")
    some, none = pictures(tmp_path / "a"), pictures(tmp_path / "b")
    assert set(some) == set(none) == {i["file_name"] for i in content["images"]}
    for image in content["images"]:
        one, other = some[image["file_name"]], none[image["file_name"]]
        half = one.shape[1] // 2
        assert is_drawn_on(one[:, half:], datasets_root, image["file_name"])
        high = any(r["image_id"] == image["id"] and r["score"] >= 0.5 for r in results)
        assert is_drawn_on(one[:, :half], datasets_root, image["file_name"]) == high
        assert not is_drawn_on(other[:, :half], datasets_root, image["file_name"])


@pytest.mark.slow
@pytest.mark.parametrize("source", ["annotation", "dataloader"])
def test_training_data(run_tool, datasets_root, tiny_yaml, tmp_path, source):
    text = run_tool(
        "tools/visualize_data.py", "--source", source, "--config-file", tiny_yaml, "--output-dir", tmp_path / "out",
        "--max-images", 3, "INPUT.MIN_SIZE_TRAIN", "(96,)",
    )  # fmt: skip
    drawn = pictures(tmp_path / "out")
    assert len(drawn) == 3
    assert len(re.findall("wrote ", text)) == 3
    for name, picture in drawn.items():
        if source == "annotation":
            assert is_drawn_on(picture, datasets_root, name)
        else:  # may be flipped: labels stand on dark grey, which the images have not
            assert (picture.max(-1) < 100).mean() > 0.005
        assert (picture.shape[0] == 96) == (source == "dataloader")


@pytest.mark.slow
def test_test_time_augmentation(run_tool, tiny_yaml, tmp_path):
    base = ("tools/train_net.py", "--config-file", tiny_yaml, "--num-gpus", 1)
    run_tool(*base, "OUTPUT_DIR", tmp_path / "out", "TEST.EVAL_PERIOD", 0)
    evaluation = (
        *base, "--eval-only", "--resume", "OUTPUT_DIR", tmp_path / "out", "TEST.AUG.ENABLED", True,
        "TEST.AUG.MIN_SIZES", "(48, 64)", "TEST.AUG.MAX_SIZE", 200,
        "TEST.EXPECTED_RESULTS", "[['bbox_TTA', 'AP', 50, 100], ['segm', 'AP', 50, 100]]",
    )  # fmt: skip
    text = run_tool(*evaluation)
    assert len(re.findall("copypaste: Task: bbox", text)) == 2
    assert "All 2 expected results were reached" in text
    records = list((tmp_path / "out/inference").glob("evaluated-*.records"))
    assert len(records) == 2  # with and without augmentation
    again = run_tool(*evaluation)
    assert len(re.findall("5 images have already been evaluated", again)) == 2
    figures = re.findall(r"copypaste: ([\d.nan,]+)$", text, re.M)
    assert len(figures) == 4 and figures == re.findall(r"copypaste: ([\d.nan,]+)$", again, re.M)
