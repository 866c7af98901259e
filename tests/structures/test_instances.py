"""Instances: every kind of field, index and copy."""

import copy
import pickle

import numpy as np
import pytest
import torch

from detectron2.structures import BitMasks, Boxes, Instances, Keypoints, PolygonMasks, ROIMasks, RotatedBoxes

TRIANGLE = [np.array([1.0, 1, 5, 1, 5, 6])]


@pytest.fixture
def found() -> Instances:
    x = Instances((30, 40))
    x.pred_boxes = Boxes(torch.arange(20.0).reshape(5, 4))
    x.rotated = RotatedBoxes(torch.arange(25.0).reshape(5, 5))
    x.scores = torch.arange(5.0)
    x.names = [f"n{i}" for i in range(5)]
    x.polygons = PolygonMasks([TRIANGLE] * 5)
    x.bits = BitMasks(torch.zeros(5, 4, 4))
    x.small = ROIMasks(torch.zeros(5, 4, 4))
    x.points = Keypoints(torch.arange(30.0).reshape(5, 2, 3))
    return x


ITEMS = {
    "int": (3, [3]),
    "negative": (-1, [4]),
    "numpy": (np.int64(2), [2]),
    "0-d": (torch.tensor(2), [2]),
    "slice": (slice(1, 5, 2), [1, 3]),
    "long": (torch.tensor([4, 4, 0]), [4, 4, 0]),
    "mask": (torch.tensor([True, False, True, False, False]), [0, 2]),
    "none": (torch.zeros(5, dtype=torch.bool), []),
    "list": ([2, 1], [2, 1]),
}


@pytest.mark.parametrize("kind", ITEMS)
def test_indexing_reaches_every_field(found: Instances, kind: str) -> None:
    item, want = ITEMS[kind]
    got = found[item]
    assert got.image_size == (30, 40)
    assert got.get_fields().keys() == found.get_fields().keys()
    assert {len(v) for v in got.get_fields().values()} == {len(want)}
    assert got.scores.tolist() == want
    assert got.names == [f"n{i}" for i in want]
    assert torch.equal(got.pred_boxes.tensor, found.pred_boxes.tensor[want])
    assert torch.equal(got.points.tensor, found.points.tensor[want])


@pytest.mark.parametrize("item", [5, -6, np.int64(5)])
def test_out_of_range(found: Instances, item: int) -> None:
    with pytest.raises(IndexError, match="out of range for 5"):
        found[item]


def test_cat_undoes_slicing(found: Instances) -> None:
    again = Instances.cat([found[:2], found[2:2], found[2:]])
    assert again.scores.tolist() == found.scores.tolist()
    assert again.names == found.names
    assert torch.equal(again.rotated.tensor, found.rotated.tensor)
    assert len(again.polygons) == 5
    assert Instances.cat([found]) is found


def test_cat_errors(found: Instances) -> None:
    with pytest.raises(ValueError, match=r"\(30, 40\) and \(1, 1\)"):
        Instances.cat([found, Instances((1, 1), scores=torch.zeros(1))])
    with pytest.raises(ValueError, match="fields"):
        Instances.cat([found, Instances((30, 40), scores=torch.zeros(1))])
    with pytest.raises(TypeError, match="no method `cat`"):
        Instances.cat([Instances((1, 1), a={1: 2}), Instances((1, 1), a={3: 4})])
    with pytest.raises(ValueError, match="one or more"):
        Instances.cat([])


def test_fields(found: Instances) -> None:
    assert found.has("scores") and not found.has("nothing")
    assert found.get("scores") is found.scores
    found.remove("scores")
    assert not found.has("scores")
    with pytest.raises(AttributeError, match="no field 'scores'; fields: pred_boxes"):
        found.scores
    with pytest.raises(ValueError, match="'bad' has 3 entries for 5"):
        found.bad = torch.zeros(3)
    found.set("names", ["x"] * 5)
    assert found.names == ["x"] * 5


def test_without_fields() -> None:
    nothing = Instances((1, 1))
    with pytest.raises(NotImplementedError):
        len(nothing)
    with pytest.raises(NotImplementedError):
        iter(nothing)
    assert "num_instances=0" in repr(nothing)


def test_copies(found: Instances) -> None:
    for other in (copy.copy(found), copy.deepcopy(found), pickle.loads(pickle.dumps(found)), found.to("cpu")):
        assert other.image_size == found.image_size
        assert torch.equal(other.pred_boxes.tensor, found.pred_boxes.tensor)
        assert other.names == found.names
    deep = copy.deepcopy(found)
    deep.scores += 1
    assert found.scores.tolist() == [0, 1, 2, 3, 4]


def test_pickles_name_what_they_always_named(found: Instances) -> None:
    assert found.__dict__.keys() == {"_image_size", "_fields"}
    for cls in (Instances, Boxes, BitMasks, PolygonMasks, Keypoints, RotatedBoxes, ROIMasks):
        assert cls.__module__.startswith("detectron2.structures.")
        assert "._" not in cls.__module__
