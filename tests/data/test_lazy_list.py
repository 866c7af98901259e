"""Records of a large file are a list like any other, and are prepared for training without being made."""

import copy
import functools
import itertools
import json
import operator
import pickle
import random
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch

from detectron2.data import DatasetFromList, build_detection_train_loader, get_detection_dataset_dicts
from detectron2.data.catalog import forget
from detectron2.data.datasets import coco, load_coco_json, register_coco_instances
from detectron2.data.datasets.coco_json.lazy_list import LazyRecords
from detectron2.data.filtering import count_classes
from detectron2.data.samplers import RepeatFactorTrainingSampler, TrainingSampler
from detectron2.data.samplers.weighted import class_balanced_weights

CLASSES = 5


@pytest.fixture(scope="module")
def json_file(tmp_path_factory) -> Path:
    rng = random.Random(0)
    images = [{"id": 7 * i, "height": 40, "width": 30 + i, "file_name": f"{i}.jpg"} for i in range(30)]
    annotations = [
        {
            "id": n, "image_id": 7 * rng.randrange(25), "category_id": 3 + min(rng.randrange(8), 4), "iscrowd": int(rng.random() < 0.3),
            "bbox": [1, 2, 3, 4], "keypoints": [1, 1, rng.choice([0, 2])] * 2,
            **({"segmentation": [[1, 2, 3]]} if rng.random() < 0.1 else {}),
        }
        for n in range(70)
    ]  # fmt: skip
    categories = [{"id": 3 + i, "name": "abcde"[i]} for i in range(CLASSES)]
    path = tmp_path_factory.mktemp("lazy") / "a.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return path


@pytest.fixture(autouse=True)
def _lazy(tmp_path, monkeypatch):
    monkeypatch.setenv("FVCORE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(coco, "LAZY_FROM_BYTES", 0)
    register_coco_instances("lazy_a", {}, "", "")
    yield
    forget("lazy_a", "lazy_b")


def lazy(json_file: Path) -> LazyRecords:
    records = load_coco_json(str(json_file), "root", "lazy_a")
    assert type(records) is LazyRecords
    return records


def plain(json_file: Path) -> list[dict]:
    return [dict(r) for r in lazy(json_file)]


def unmade(records: LazyRecords) -> bool:
    return records.places() is not None and not any(o.made for o in records._origins)


USES = {
    "list": list,
    "tuple": tuple,
    "len": len,
    "bool": bool,
    "iter": lambda r: [x["image_id"] for x in r],
    "reversed": lambda r: list(reversed(r)),
    "star": lambda r: [*r],
    "unpack": lambda r: (lambda a, *b: (a, b))(*r),
    "get": lambda r: (r[0], r[-1], r[np.int64(3)], r[True]),
    "slice": lambda r: (r[2:5], r[::-3], r[:0], len(r[4:])),
    "in": lambda r: (r[3] in r, 5 in r),
    "set": lambda r: (r.__setitem__(2, {"x": 1}), r),
    "set slice": lambda r: (r.__setitem__(slice(1, 9), [{"x": 1}]), r),
    "del": lambda r: (r.__delitem__(2), r),
    "add": lambda r: (r + [1], [1] + r, r + r, r + r[:2]),
    "sum": lambda r: functools.reduce(operator.iadd, [r, r[3:4]], []),
    "extend by": lambda r: (lambda a: (a.extend(r), a))([1]),
    "iadd of a list": lambda r: (lambda a, b: (b.__iadd__(r), a))(*[[1]] * 2),
    "iadd": lambda r: r.__iadd__([4]),
    "mul": lambda r: (r * 2, 2 * r),
    "append": lambda r: (r.append(5), r),
    "extend": lambda r: (r.extend(r), r),
    "insert": lambda r: (r.insert(3, 5), r),
    "pop": lambda r: (r.pop(), r.pop(0), r),
    "remove": lambda r: (r.remove(r[4]), r),
    "clear": lambda r: (r.clear(), r),
    "reverse": lambda r: (r.reverse(), r),
    "sort": lambda r: (r.sort(key=lambda x: -x["width"]), r),
    "sorted": lambda r: sorted(r, key=lambda x: -x["width"]),
    "index": lambda r: (r.index(r[3]), r.count(r[3])),
    "eq": lambda r: (r == list(r), list(r) == r, r == r[:], r != r[1:], [] == r),
    "repr": repr,
    "json": lambda r: json.dumps([list(x) for x in r]) + json.dumps(r, default=str),
    "copy": lambda r: (r.copy(), copy.copy(r), copy.deepcopy(r)),
    "pickle": lambda r: pickle.loads(pickle.dumps(r)),
    "array": lambda r: len(np.array(r, dtype=object)),
    "zip": lambda r: list(zip(r, r[2:])),
    "chain": lambda r: list(itertools.chain(r, r)),
    "sample": lambda r: random.Random(1).sample(r, 5),
    "shuffle": lambda r: (random.Random(1).shuffle(r), r),
}


def test_lists_do_what_lists_do(json_file) -> None:
    expected = plain(json_file)
    for what, use in USES.items():
        assert use(lazy(json_file)) == use(copy.deepcopy(expected)), what
    alias = [1]
    both = alias
    alias += lazy(json_file)
    assert both is alias and len(both) == 31
    assert isinstance(lazy(json_file), list)
    for wrong in (30, -31):
        with pytest.raises(IndexError):
            lazy(json_file)[wrong]
    with pytest.raises(TypeError):
        lazy(json_file) + 5


def test_an_element_stays_the_same_object(json_file) -> None:
    records = lazy(json_file)
    part = records[3:]
    records[4]["mine"] = [1]
    assert records[4] is part[1] is records[-26] and part[1]["mine"] == [1]
    assert records.places() is None
    assert records[4] is list(records)[4] is list(part)[1]
    records.sort(key=lambda r: -r["width"])
    assert records[-5]["mine"] == [1]


def statistics(records: list[dict]) -> list[object]:
    return [
        count_classes(records, CLASSES).tolist(),
        RepeatFactorTrainingSampler.repeat_factors_from_category_frequency(records, 0.9),
        RepeatFactorTrainingSampler.repeat_factors_from_category_frequency(records, 0.9, sqrt=False),
        class_balanced_weights(records, 0.5),
        torch.from_numpy(DatasetFromList(records).upright),
    ]


def test_statistics_need_no_records(json_file) -> None:
    for part in (
        lambda r: r,
        lambda r: r[3:20],
        lambda r: r[::-2],
        lambda r: LazyRecords.joined([r, lazy(json_file)[5:], r[:3]]),
    ):
        records = part(lazy(json_file))
        found = statistics(records)
        assert unmade(records)
        for a, b in zip(found, statistics([dict(r) for r in copy.copy(records)]), strict=True):
            assert torch.equal(a, b) and a.dtype == b.dtype if isinstance(a, torch.Tensor) else a == b
    with pytest.raises(ValueError, match=r"category_id 4"):
        count_classes(lazy(json_file), 4)


def test_a_loader_is_built_without_making_a_record(json_file, monkeypatch) -> None:
    for name in ("lazy_a", "lazy_b"):
        forget(name)
        register_coco_instances(name, {}, str(json_file), "root")
    lists = {}
    for lazily in (True, False):
        monkeypatch.setattr(coco, "LAZY_FROM_BYTES", 0 if lazily else 1 << 60)
        lists[lazily] = get_detection_dataset_dicts(["lazy_a", "lazy_b"], min_keypoints=2)
    assert lists[True].lengths == lists[False].lengths
    assert sum(len(o.made) for o in lists[True]._origins) == 1  # to see what it holds
    parts = {}
    for lazily, records in lists.items():
        packed = DatasetFromList(records)
        parts[lazily] = [packed[i] for i in range(len(packed))]
        sampler = TrainingSampler(len(records), seed=3)
        loader = build_detection_train_loader(
            records, mapper=dict, sampler=sampler, total_batch_size=4, seed=1
        )
        parts[lazily] += next(iter(loader))
    assert parts[True] == parts[False]
    assert lists[True].places() is not None


def test_changes_reach_the_loader_and_its_statistics(json_file) -> None:
    records, whole = lazy(json_file), plain(json_file)
    for one in (records, whole):
        one[2]["annotations"].append({"category_id": 4, "iscrowd": 0, "bbox": [0, 0, 1, 1], "bbox_mode": 1})
        one[3]["width"] = 1
        one.pop()
    for a, b in zip(statistics(records), statistics(whole), strict=True):
        assert torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b
    packed = DatasetFromList(records)
    assert [packed[i] for i in range(len(packed))] == whole


def test_pickling_keeps_the_content(json_file) -> None:
    records = lazy(json_file)
    records.lengths = {"lazy_a": 30}
    again = pickle.loads(pickle.dumps(records))
    assert again == plain(json_file) and again.lengths == records.lengths and type(again[0]) is dict


@pytest.mark.parametrize("kind", ["plain", "repeat"])
def test_a_shuffled_order_is_no_list(kind) -> None:
    """A list of a million indices would take 8 MB, and its integers 32 MB, in each worker."""
    count = 1_000_000
    if kind == "plain":
        sampler = TrainingSampler(count, seed=0)
    else:
        sampler = RepeatFactorTrainingSampler(torch.ones(count), seed=0)
    tracemalloc.start()
    try:
        indices = iter(sampler)
        first = list(itertools.islice(indices, 1000))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(set(first)) == 1000 and first != sorted(first)
    assert peak < 2 << 20
