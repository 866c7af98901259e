"""``KEY VALUE`` and ``KEY=VALUE`` for either kind of config."""

import pytest

from detectron2.engine.run_config.words import as_assignments, as_pairs
from detectron2.utils.errors import UnknownNameError


def test_both_forms_for_both_kinds() -> None:
    assert as_pairs(["A.B", "1", "C=2", "D", "x=y", "E=a=b"]) == [
        "A.B",
        "1",
        "C",
        "2",
        "D",
        "x=y",
        "E",
        "a=b",
    ]
    assert as_assignments(["a.b", "1", "c[0]=2", "~d", "+e=[1, 2]", "f", "-3"]) == [
        "a.b=1", "c[0]=2", "~d", "+e=[1, 2]", "f=-3"
    ]  # fmt: skip
    for call in (as_pairs, as_assignments):
        assert call([]) == []
        with pytest.raises(ValueError, match="has no value"):
            call(["a"])


def test_a_key_of_the_other_kind_is_translated() -> None:
    with pytest.raises(UnknownNameError, match=r"SOLVER\.MAX_ITER"):
        as_pairs(["train.max_iter=3"])
    with pytest.raises(UnknownNameError, match=r"train\.max_iter"):
        as_assignments(["SOLVER.MAX_ITER", "3"])
    with pytest.raises(UnknownNameError, match="Python config"):
        as_assignments(["MODEL.RPN.NMS_THRESH=3"])
