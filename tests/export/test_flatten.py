"""Nested values as tuples and back, and models as modules of tensors."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from detectron2.export import TracingAdapter
from detectron2.export.flatten import (
    DictSchema,
    IdentitySchema,
    InstancesSchema,
    ListSchema,
    TensorWrapSchema,
    TupleSchema,
    flatten_to_tuple,
)
from detectron2.structures import BitMasks, Boxes, ImageList, Instances, Keypoints, ROIMasks, RotatedBoxes

NESTED = st.recursive(
    st.integers() | st.text() | st.none(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(st.text(), inner, max_size=4)
    ),
    max_leaves=20,
)


def count_leaves(value: Any) -> int:
    if isinstance(value, dict):
        return sum(count_leaves(v) for v in value.values())
    return sum(count_leaves(v) for v in value) if isinstance(value, (list, tuple)) else 1


@settings(max_examples=60, deadline=None)
@given(NESTED)
def test_round_trip_of_any_nesting(value: Any) -> None:
    leaves, schema = flatten_to_tuple(value)
    assert isinstance(leaves, tuple)
    assert len(leaves) == count_leaves(value)
    assert schema(leaves) == value
    assert flatten_to_tuple(schema(leaves)) == (leaves, schema)


def test_order_of_leaves_is_that_of_sorted_keys() -> None:
    leaves, schema = flatten_to_tuple({"b": [1, (2,)], "a": "xyz"})
    assert leaves == ("xyz", 1, 2)
    assert schema == DictSchema(
        [IdentitySchema(), ListSchema([IdentitySchema(), TupleSchema([IdentitySchema()], [1])], [1, 1])],
        [1, 2],
        ["a", "b"],
    )
    assert schema((7, 8, 9)) == {"a": 7, "b": [8, (9,)]}
    assert schema == flatten_to_tuple({"a": 0, "b": [0, (0,)]})[1]
    assert schema != flatten_to_tuple({"a": 0, "b": [0, [0]]})[1]
    assert "DictSchema" in repr(schema)


def test_instances_end_with_their_image_size() -> None:
    boxes, scores = torch.rand(3, 4), torch.rand(3)
    found = Instances((30, 40), scores=scores, pred_boxes=Boxes(boxes))
    leaves, schema = flatten_to_tuple(found)
    assert isinstance(schema, InstancesSchema)
    assert leaves[0] is boxes and leaves[1] is scores
    assert torch.equal(leaves[2], torch.tensor([30, 40]))
    back = schema(leaves)
    assert back.image_size == (30, 40)
    assert isinstance(back.pred_boxes, Boxes)
    assert set(back.get_fields()) == {"scores", "pred_boxes"}
    other = schema((torch.rand(0, 4), torch.rand(0), torch.tensor([5, 6])))
    assert len(other) == 0 and other.image_size == (5, 6)


def test_instances_without_fields() -> None:
    leaves, schema = flatten_to_tuple([Instances((3, 4)), Instances(torch.tensor([5, 6]))])
    assert len(leaves) == 2
    assert [i.image_size for i in schema(leaves)] == [(3, 4), (5, 6)]


@pytest.mark.parametrize(
    "wrapped",
    [
        Boxes(torch.rand(2, 4)),
        RotatedBoxes(torch.rand(2, 5)),
        ROIMasks(torch.rand(2, 7, 7)),
        BitMasks(torch.rand(2, 5, 6) > 0.5),
        Keypoints(torch.rand(2, 17, 3)),
    ],
    ids=lambda w: type(w).__name__,
)
def test_tensor_wrappers_come_back_in_their_class(wrapped: Any) -> None:
    leaves, schema = flatten_to_tuple(wrapped)
    assert len(leaves) == 1 and isinstance(schema, TensorWrapSchema)
    back = schema(leaves)
    assert type(back) is type(wrapped)
    assert torch.equal(back.tensor, wrapped.tensor)


def test_image_list_round_trip() -> None:
    batch = ImageList.from_tensors([torch.rand(3, 4, 5), torch.rand(3, 6, 2)])
    leaves, schema = flatten_to_tuple({"images": batch})
    back = schema(leaves)["images"]
    assert torch.equal(back.tensor, batch.tensor)
    assert back.image_sizes == [(4, 5), (6, 2)]


def test_errors_name_what_is_wrong() -> None:
    with pytest.raises(KeyError, match="strings, got 3"):
        flatten_to_tuple({3: 1})
    _, schema = flatten_to_tuple([1, 2])
    with pytest.raises(ValueError, match=r"2 value\(s\), got 3"):
        schema((1, 2, 3))


class Toy(nn.Module):
    """A model with the formats of a detector: list of dicts in, list of dicts with Instances out."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, inputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [self.one(item) for item in inputs]

    def one(self, item: dict[str, Any]) -> dict[str, Any]:
        boxes, image = self.linear(item["boxes"].tensor), item["image"]
        height, width = image.shape[-2:]
        found = Instances((height, width), pred_boxes=Boxes(boxes), scores=boxes.sum(dim=1))
        return {"instances": found, "sem_seg": (image * 2, [image.mean()])}


def toy_inputs(rows: int = 5, height: int = 6, width: int = 7) -> list[dict[str, Any]]:
    return [{"image": torch.rand(3, height, width), "boxes": Boxes(torch.rand(rows, 4))}]


def test_adapter_equals_the_model() -> None:
    model, inputs = Toy(), toy_inputs()
    adapter = TracingAdapter(model, inputs)
    assert [tuple(t.shape) for t in adapter.flattened_inputs] == [(5, 4), (3, 6, 7)]
    out = adapter(*adapter.flattened_inputs)
    assert all(isinstance(t, torch.Tensor) and not t.requires_grad for t in out)
    assert adapter.outputs_schema is not None
    (got,), (want,) = adapter.outputs_schema(out), model(inputs)
    assert got["instances"].image_size == (6, 7)
    assert torch.equal(got["instances"].pred_boxes.tensor, want["instances"].pred_boxes.tensor)
    assert torch.equal(got["sem_seg"][1][0], want["sem_seg"][1][0])
    other = toy_inputs(0, 9, 8)
    (got,) = adapter.outputs_schema(adapter(*TracingAdapter(model, other).flattened_inputs))
    assert len(got["instances"]) == 0 and got["instances"].image_size == (9, 8)


def test_adapter_takes_several_arguments_and_a_function() -> None:
    model = nn.Bilinear(3, 3, 2)
    x, y = torch.rand(4, 3), torch.rand(4, 3)
    (out,) = TracingAdapter(model, (x, y))(x, y)
    assert torch.equal(out, model(x, y))
    adapter = TracingAdapter(model, (x, y), lambda m, a, b: {"swapped": m(b, a)})
    assert torch.equal(adapter(x, y)[0], model(y, x))
    assert TracingAdapter(nn.DataParallel(model), (x, y)).model is model


def test_other_values_than_tensors() -> None:
    x = torch.rand(2)
    inputs = {"x": x, "factor": 3}

    def scale(_: nn.Module, item: dict[str, Any]) -> dict[str, Any]:
        return {"y": item["x"] * item["factor"], "name": "scaled"}

    with pytest.raises(ValueError, match=r"inputs of a graph.*int.*allow_non_tensor"):
        TracingAdapter(nn.Identity(), inputs, scale)
    adapter = TracingAdapter(nn.Identity(), inputs, scale, allow_non_tensor=True)
    assert adapter.inputs_schema is None
    (out,) = adapter(*adapter.flattened_inputs)
    assert torch.equal(out, x * 3) and adapter.outputs_schema is None
    with pytest.raises(ValueError, match="cannot be built from other tensors"):
        adapter(torch.rand(2))
    with pytest.raises(ValueError, match=r"outputs of a graph.*str"):
        TracingAdapter(nn.Identity(), x, lambda _, t: (t, "name"))(x)


def test_schema_of_outputs_is_known_without_a_call() -> None:
    adapter = TracingAdapter(nn.Identity(), torch.rand(2), lambda _, t: {"a": [t]})
    assert adapter.outputs_schema == flatten_to_tuple({"a": [torch.zeros(1)]})[1]


def test_outputs_of_another_structure_are_refused() -> None:
    adapter = TracingAdapter(nn.Identity(), torch.rand(2), lambda _, t: list(t))
    adapter(torch.rand(2))
    with pytest.raises(ValueError, match="not structured as in the first call"):
        adapter(torch.rand(3))


@pytest.mark.parametrize("strict", [True, False])
def test_adapter_in_torch_export(strict: bool) -> None:
    model = Toy()
    adapter = TracingAdapter(model, toy_inputs())
    dims = {name: torch.export.Dim(name, min=2, max=99) for name in ("rows", "height", "width")}
    program = torch.export.export(
        adapter,
        adapter.flattened_inputs,
        dynamic_shapes={"args": ({0: dims["rows"]}, {1: dims["height"], 2: dims["width"]})},
        strict=strict,
    )
    assert adapter.outputs_schema is not None
    for rows, height, width in ((5, 6, 7), (8, 9, 11)):
        other = toy_inputs(rows, height, width)
        (want,) = model(other)
        leaves, _ = flatten_to_tuple(other)
        (got,) = adapter.outputs_schema(program.module()(*leaves))
        assert got["instances"].image_size == (height, width)
        torch.testing.assert_close(got["instances"].scores, want["instances"].scores)
        torch.testing.assert_close(got["sem_seg"][0], want["sem_seg"][0])
