"""The index that NumPy reads from many objects at once is the one that ``json`` reads from each."""

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detectron2.data.datasets.coco_json import build
from detectron2.data.datasets.coco_json.columns import NotIndexable
from detectron2.data.datasets.coco_json.objects import JsonObjects, like_objects

POLYGON = [1.5, 2, 30, 4, 5e1, 60.25]


def annotation(rng: random.Random, number: int, images: int, unusual: float) -> dict[str, Any]:
    """An annotation as most files have it, or an unusual one."""
    made: dict[str, Any] = {
        "segmentation": rng.choice([[POLYGON], [POLYGON[:4], POLYGON], [POLYGON[:4]], [], [POLYGON * 3, POLYGON[:5]]]),
        "area": rng.uniform(0, 9e4), "iscrowd": int(rng.random() < 0.1), "image_id": rng.randrange(images + 1),
        "bbox": [rng.uniform(-5, 9), 2, 3.5, 4], "category_id": rng.choice([1, 7, 90]), "id": number,
        "keypoints": [rng.choice([0, 1, 2, 0.0, 0.5, -1, 3e-2, 2.0, 10]) for _ in range(rng.choice([0, 3, 6, 7]))],
    }  # fmt: skip
    if rng.random() < unusual:
        key, value = rng.choice(
            [
                ("segmentation", {"size": [4, 5], "counts": "0\\1]}{"}),
                ("segmentation", {"size": [4, 5], "counts": [3, 2]}),
                ("segmentation", None),
                ("segmentation", [[]]),
                ("segmentation", [[[1, 2, 3, 4, 5, 6]]]),
                ("keypoints", None),
                ("iscrowd", True),
                ("note", 'a "quoted" {text}, ['),
                ("note", "ü☃"),
                ("parts", [{"id": 7}, {"id": 8}]),
                ("tags", ["id", "bbox"]),
                ("id", number + 10**12),
                ("score", -1.5e-7),
                ("nothing", None),
                ("x y", {"id": {}}),
            ]
        )
        made[key] = value
        if rng.random() < 0.3:
            del made[rng.choice(["keypoints", "segmentation", "iscrowd", "area"])]
        if rng.random() < 0.3:
            entries = list(made.items())
            rng.shuffle(entries)
            made = dict(entries)
    return made


def written(path: Path, seed: int, unusual: float, **style: Any) -> Path:
    rng = random.Random(seed)
    images = [
        {
            "id": i, "height": 40 + i, "width": 50, "license": 1, "file_name": rng.choice(["{}.jpg", "ä{}", 'q"{}', "}}, {{{}"]).format(i),
            **({"tags": ["a", "b"]} if rng.random() < unusual else {}),
        }
        for i in rng.sample(range(16), 12)
    ]  # fmt: skip
    content = {
        "info": {"a": [1, {"b": "]}"}]},
        "annotations": [annotation(rng, n, 16, unusual) for n in rng.sample(range(200), 50)],
        "images": images,
        "categories": [{"id": 7, "name": "x"}, {"id": 1, "name": "y"}],
    }
    path.write_text(json.dumps(content, **style), encoding="utf-8")
    return path


def same(a: tuple[dict[str, Any], Any], b: tuple[dict[str, Any], Any]) -> None:
    assert a[1] == b[1]
    assert list(a[0]) == list(b[0])
    for name in a[0]:
        np.testing.assert_array_equal(a[0][name], b[0][name], name)


@pytest.mark.parametrize(
    "style",
    [
        {},
        {"indent": 2},
        {"separators": (",", ":")},
        {"ensure_ascii": False},
        {"separators": (" ,\n", "\t: "), "ensure_ascii": False},
    ],
)
@pytest.mark.parametrize("unusual", [0, 0.2, 1])
def test_many_at_once_equals_one_by_one(tmp_path, monkeypatch, style, unusual) -> None:
    path = str(written(tmp_path / "a.json", 0, unusual, **style))
    with monkeypatch.context() as patch:
        patch.setattr(JsonObjects, "find", lambda piece: None)
        expected = build.build_arrays(path)
    for size in (1 << 20, 3000, 100):
        monkeypatch.setattr(build, "_PIECE", size)
        same(build.build_arrays(path), expected)


def test_most_objects_need_no_parser(tmp_path, monkeypatch) -> None:
    path = str(written(tmp_path / "a.json", 0, 0.0))
    parsed, parse = [], JsonObjects.parsed
    monkeypatch.setattr(
        JsonObjects, "parsed", lambda objects, rows: parsed.extend(rows) or parse(objects, rows)
    )
    arrays, _ = build.build_arrays(path)
    assert len(arrays["starts"]) > 30
    # Names with escapes, and keypoints such as 0.5, whose visibility takes more than a look at one character.
    assert len(parsed) < 45


def pieces(*objects: str) -> list[dict[str, int]]:
    found = JsonObjects.find(", ".join(objects).encode())
    assert found is not None
    return [like.slots for like in like_objects(found)]


def test_keys_are_compared_and_not_guessed() -> None:
    assert pieces('{"a": 1, "b": 2}', '{"a": 3, "b": 4}') == [{"a": 0, "b": 1}]
    assert pieces('{"a": 1, "b": 2}', '{"b": 3, "a": 4}') == [{"a": 0, "b": 1}, {"b": 0, "a": 1}]
    assert pieces('{"a": "b", "c": 2}', '{"a": 1, "b": 4, "c": 3}') == [
        {"a": 0, "c": 2},
        {"a": 0, "b": 1, "c": 2},
    ]
    assert pieces('{"a": 1, "a": 2}') == []  # a key twice
    assert pieces('{"long name of a key": 1}', '{"long name of a kez": 1}') == [
        {"long name of a key": 0},
        {"long name of a kez": 0},
    ]


@pytest.mark.parametrize(
    "piece", [b"", b"5, 6", b'{"a": "', b'{"a": 1}, 5, {"a": 1}', b'{"a": 1}; {"a": 1}', b'{"a": 1} {"a": 1}']
)
def test_what_is_no_run_of_objects_is_left_alone(piece) -> None:
    assert JsonObjects.find(piece) is None


def test_the_end_of_an_array_is_found_between_others() -> None:
    found = JsonObjects.find(b'{"a": 1}, {"a": [{}]} ] , "b": [{"a": 1}, {"a": 2}]}')
    assert found is not None and found.close == 23 and found.simple.tolist() == [True, False]
    assert found.parsed(np.arange(2)) == [{"a": 1}, {"a": [{}]}]


@pytest.mark.parametrize(
    ("entry", "error"),
    [
        ('{"id": 1, "image_id": 1.5, "category_id": 1}', NotIndexable),
        ('{"id": "1", "image_id": 1, "category_id": 1}', NotIndexable),
        ('{"image_id": 1, "category_id": 1}', NotIndexable),
        ('{"id": 1, "image_id": 1, "category_id": 1, "iscrowd": null}', NotIndexable),
        ('{"id": 1, "image_id": 1, "category_id": 1, "segmentation": [5]}', NotIndexable),
        ('{"id": 1, "image_id": 1, "category_id": 1, "bbox": []}', ValueError),
        ('{"id": 1, "image_id": 1, "category_id": 1, "bbox": null}', ValueError),
        ('{"id": 1, "image_id": 1, "category_id": 1, "bbox": [x]}', ValueError),
        ('{"id": 9, "image_id": 1, "category_id": 1}', ValueError),
    ],
)
def test_unusual_entries_are_answered_as_ever(tmp_path, entry, error) -> None:
    usual = '{"id": 9, "image_id": 1, "category_id": 1}'
    for entries in (f"{usual}, {entry}", f"{entry}, {usual}"):
        (tmp_path / "a.json").write_text(f'{{"images": [], "annotations": [{entries}]}}')
        with pytest.raises(error):
            build.build_arrays(str(tmp_path / "a.json"))


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "latin-1"])
@pytest.mark.parametrize("key", ["note", "file_name"])
def test_files_of_other_encodings_are_read_as_a_whole(tmp_path, encoding, key) -> None:
    text = f'{{"images": [], "annotations": [{{"id": 1, "image_id": 1, "category_id": 1, "{key}": "é"}}]}}'
    (tmp_path / "a.json").write_text(text, encoding=encoding)
    with pytest.raises(NotIndexable, match="UTF-"):
        build.build_arrays(str(tmp_path / "a.json"))


@pytest.mark.parametrize("seed", range(20))
def test_damaged_files_are_read_alike_or_refused(tmp_path, monkeypatch, seed) -> None:
    rng = random.Random(seed)
    path = written(tmp_path / "a.json", seed, rng.choice([0, 0.3]), **rng.choice([{}, {"indent": 1}]))
    whole = path.read_bytes()
    for _ in range(4):
        raw, at = bytearray(whole), rng.randrange(len(whole))
        raw[at : at + rng.randrange(2)] = rng.choice(
            [b'"', b"{", b"}", b"[", b"]", b",", b":", b" ", b"1", b".", b"\\", b""]
        )
        path.write_bytes(raw)
        found = []
        for find in (JsonObjects.find, lambda piece: None):
            with monkeypatch.context() as patch:
                patch.setattr(JsonObjects, "find", find)
                patch.setattr(build, "_PIECE", rng.choice([300, 1 << 20]))
                try:
                    found.append(build.build_arrays(str(path)))
                except (ValueError, NotIndexable) as error:
                    found.append(error)
        if not isinstance(found[1], Exception):  # what the parser reads, it reads alike
            same(*found)
