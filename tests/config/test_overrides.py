"""Command-line overrides of Python configs."""

import json
import warnings
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from detectron2.config import LazyCall as L
from detectron2.config import LazyConfig
from detectron2.config.python.override_values import parse_value
from detectron2.config.python.overrides import parse_override


def config() -> Any:
    return OmegaConf.create(
        {
            "train": {"max_iter": 5, "amp": {"enabled": False}, "name": None},
            "sizes": [1, 2, {"c": 3}],
            "ref": "${train.max_iter}",
            "model": {"width": 4, "head": {"width": "${..width}"}},
        },
        flags={"allow_objects": True},
    )


@pytest.mark.parametrize(
    "text, value",
    [
        ("3", 3),
        ("-3", -3),
        ("1_000", 1000),
        ("1.5", 1.5),
        (".5", 0.5),
        ("1e-3", 1e-3),
        ("-inf", float("-inf")),
        ("true", True),
        ("False", False),
        ("null", None),
        ("", ""),
        ("abc", "abc"),
        ("a b", "a b"),
        ("'a b'", "a b"),
        ("'3'", "3"),
        (r'"a\"b\\c\n"', 'a"b\\c\n'),
        ("detectron2://a/b.pkl", "detectron2://a/b.pkl"),
        ("/a/b-c_d.pth", "/a/b-c_d.pth"),
        ("k=v", "k=v"),
        ("[]", []),
        ("[1, 2.0, x, [y], {a: b}]", [1, 2.0, "x", ["y"], {"a": "b"}]),
        ("[1,2,]", [1, 2]),
        ("(1,2)", [1, 2]),
        ("{}", {}),
        ("{a: 1, 'b c': [2], 3: true}", {"a": 1, "b c": [2], 3: True}),
        ("${a.b}", "${a.b}"),
        ("[${a}, ${oc.env:HOME,x}]", ["${a}", "${oc.env:HOME,x}"]),
        ("x${a}y", "x${a}y"),
    ],
)
def test_values(text: str, value: Any) -> None:
    got = parse_value(text)
    assert got == value
    assert type(got) is type(value)


@pytest.mark.parametrize(
    "text", ["[1", "{a: 1", "{a}", "[1 , , 2]", "'a", "${a", "1,2", "[1]x", "{a: 1, a: 2}", "(1]"]
)
def test_unreadable_values_point_at_the_place(text: str) -> None:
    with pytest.raises(ValueError, match=r"\^"):
        parse_value(text)


plain = st.recursive(
    st.one_of(st.integers(), st.floats(allow_nan=False), st.booleans(), st.none(), st.text(max_size=8)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=8,
)


def written(value: Any) -> str:
    """A value in the grammar of overrides."""
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped}"'
    if isinstance(value, list):
        return f"[{', '.join(map(written, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{written(k)}: {written(v)}' for k, v in value.items())}}}"
    return json.dumps(value) if value is None or isinstance(value, bool) else repr(value)


@given(plain)
def test_whatever_is_written_is_read_back(value: Any) -> None:
    assert parse_value(written(value)) == value


name = st.from_regex(r"[a-z]{1,3}", fullmatch=True)


@given(
    st.lists(name, min_size=1, max_size=4),
    st.one_of(st.integers(), st.booleans(), st.lists(st.integers(), max_size=3)),
)
def test_any_new_key_can_be_set_and_deleted(path: list[str], value: Any) -> None:
    key = ".".join(path)
    cfg = LazyConfig.apply_overrides(OmegaConf.create({}), [f"+{key}={written(value)}"])
    assert OmegaConf.select(cfg, key) == value
    LazyConfig.apply_overrides(cfg, [f"~{key}"])
    assert OmegaConf.select(cfg, key) is None


def test_setting() -> None:
    cfg = config()
    same = LazyConfig.apply_overrides(
        cfg, ["train.amp.enabled=true", "sizes.0=9", "sizes[2].c=8", "brand.new=[1]", "train.name={a: 1}"]
    )
    assert same is cfg
    assert cfg.train.amp.enabled is True
    assert cfg.sizes == [9, 2, {"c": 8}]
    assert cfg.brand.new == [1]
    assert cfg.train.name.a == 1


def test_dictionaries_are_merged() -> None:
    cfg = LazyConfig.apply_overrides(config(), ["train={max_iter: 7}"])
    assert (cfg.train.max_iter, cfg.train.amp.enabled, cfg.ref) == (7, False, 7)


def test_targets_and_interpolations() -> None:
    cfg = OmegaConf.create({"n": 2}, flags={"allow_objects": True})
    cfg.call = L(dict)(a=1)
    LazyConfig.apply_overrides(cfg, ["call._target_=collections.Counter", "call.b=${n}", "n=5"])
    assert cfg.call._target_ == "collections.Counter"
    assert cfg.call.b == 5


def test_misspelt_keys_are_refused_unless_meant() -> None:
    with pytest.raises(KeyError, match="max_iter"):
        LazyConfig.apply_overrides(config(), ["train.max_itr=3"])
    with pytest.raises(KeyError, match="max_iter"):
        LazyConfig.apply_overrides(config(), ["train.MAX_ITER=3"])
    assert LazyConfig.apply_overrides(config(), ["+train.max_itr=3"]).train.max_itr == 3
    assert LazyConfig.apply_overrides(config(), ["++train.max_itr=3"]).train.max_itr == 3


def test_deletion() -> None:
    cfg = LazyConfig.apply_overrides(config(), ["~train.amp", "~sizes.0", "~ref"])
    assert "amp" not in cfg.train
    assert cfg.sizes[0] == 2
    LazyConfig.apply_overrides(cfg, ["~train.max_iter"])  # nothing refers to it any more
    with pytest.raises(KeyError, match="ref refers to it"):
        LazyConfig.apply_overrides(config(), ["~train.max_iter"])
    with pytest.raises(KeyError, match=r"model\.head\.width refers to it"):
        LazyConfig.apply_overrides(config(), ["~model.width"])
    with pytest.raises(KeyError, match="'amp'"):
        LazyConfig.apply_overrides(config(), ["~train.ampp"])


@pytest.mark.parametrize(
    "text, words",
    [
        ("train.max_iter.x=3", "has no keys"),
        ("sizes.7=3", "has 3 entries"),
        ("sizes.x=3", "not an index"),
    ],
)
def test_impossible_places(text: str, words: str) -> None:
    with pytest.raises(KeyError, match=words):
        LazyConfig.apply_overrides(config(), [text])


@pytest.mark.parametrize("text", ["", "a", "=3", "a..b=1", ".a=1", "~a=3", "a b=3", "~", "a=[1"])
def test_unreadable_overrides_change_nothing(text: str) -> None:
    cfg = config()
    with pytest.raises(ValueError, match="override"):
        LazyConfig.apply_overrides(cfg, ["train.max_iter=9", text])
    assert cfg.train.max_iter == 5


def test_parsed_form() -> None:
    assert parse_override("a[0].b=1") == ("set", ["a", "0", "b"], 1)
    assert parse_override("~a.b") == ("delete", ["a", "b"], None)


def test_entries_of_tuples_can_be_set_without_a_warning() -> None:
    cfg = OmegaConf.create({"a": (1, 2), "b": [(1, 2)]}, flags={"allow_objects": True})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        LazyConfig.apply_overrides(cfg, ["a.0=5", "b.0.1=7"])
        assert list(cfg.a) == [5, 2]
        assert list(cfg.b[0]) == [1, 7]
        LazyConfig.apply_overrides(cfg, ["a=[1, 2, 3]"])
    assert list(cfg.a) == [1, 2, 3]


def test_new_keys_are_added_aloud_unless_meant(caplog) -> None:
    cfg = LazyConfig.apply_overrides(OmegaConf.create({"a": {"b": 1}}), ["a.xy=3", "+a.other=4"])
    assert cfg == {"a": {"b": 1, "xy": 3, "other": 4}}
    assert "a.xy" in caplog.text and "a.other" not in caplog.text
