"""Proposal files: read from any protocol, refused when they are damaged or ask for more than arrays."""

import pickle
import sys

import numpy as np
import pytest

from detectron2.data.build import load_proposals_into_dataset
from detectron2.structures import BoxMode
from detectron2.utils.file_io.safe_pickle import UnsafeCheckpointError

BOXES = np.array([[1.0, 2, 5, 7], [0, 0, 9, 9]], np.float32)


def records() -> list[dict]:
    return [{"file_name": "a.png", "image_id": 1, "height": 9, "width": 9}]


def load(tmp_path, content) -> dict:
    path = tmp_path / "proposals.pkl"
    path.write_bytes(content if isinstance(content, bytes) else pickle.dumps(content))
    return load_proposals_into_dataset(records(), str(path))[0]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("old", [True, False])
def test_proposals_are_read_best_first(tmp_path, protocol, old) -> None:
    ids, logits = ("indexes", "scores") if old else ("ids", "objectness_logits")
    content = {
        ids: [1],
        "boxes": [BOXES],
        logits: [np.array([0.5, 2.0], np.float32)],
        "bbox_mode": BoxMode.XYXY_ABS,
    }
    record = load(tmp_path, pickle.dumps(content, protocol))
    assert record["proposal_boxes"].tolist() == BOXES[::-1].tolist()
    assert record["proposal_objectness_logits"].tolist() == [2.0, 0.5]
    assert record["proposal_bbox_mode"] is BoxMode.XYXY_ABS


class Call:
    def __reduce__(self):
        return (sys.exit, (3,))


def test_proposals_that_ask_for_a_call_or_for_objects_are_refused(tmp_path) -> None:
    good = {"ids": [1], "objectness_logits": [np.ones(2)]}
    for boxes in (Call(), np.array([None, object], dtype=object)):
        with pytest.raises(UnsafeCheckpointError):
            load(tmp_path, {**good, "boxes": [boxes]})


def test_a_proposal_file_changes_nothing_in_the_process(tmp_path) -> None:
    before = BoxMode.convert
    evil = b"\x80\x04cdetectron2.structures.boxes\nBoxMode\nN}X\x07\x00\x00\x00convertK\x01s\x86b."
    with pytest.raises(UnsafeCheckpointError):
        load(tmp_path, evil)
    assert BoxMode.convert is before


def test_damaged_proposal_files_are_named(tmp_path) -> None:
    whole = pickle.dumps({"ids": [1], "boxes": [BOXES], "objectness_logits": [np.ones(2)]})
    for content in (whole[:-20], b"", b"no pickle", pickle.dumps([1, 2]), pickle.dumps({"ids": [1]})):
        with pytest.raises(ValueError, match=r"proposals\.pkl"):
            load(tmp_path, content)
    with pytest.raises(KeyError, match="no proposals"):
        load(tmp_path, {"ids": [2], "boxes": [BOXES], "objectness_logits": [np.ones(2)]})
