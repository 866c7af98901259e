"""COCO files in and out: whole and indexed reading agree, conversions round-trip, defects are named."""

import copy
import json
import multiprocessing
import os
import pickle
from pathlib import Path

import numpy as np
import pycocotools.mask as mask_util
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from detectron2.data import DatasetCatalog, DatasetFromList, MetadataCatalog, get_detection_dataset_dicts
from detectron2.data.catalog import forget
from detectron2.data.datasets import coco as coco_module
from detectron2.data.datasets import (
    convert_to_coco_json,
    load_coco_json,
    load_sem_seg,
    register_coco_instances,
)
from detectron2.data.datasets.coco import convert_to_coco_dict
from detectron2.data.datasets.coco_json.json_stream import JsonStream
from detectron2.data.datasets.coco_panoptic import load_coco_panoptic_json, merge_to_panoptic
from detectron2.structures import BoxMode


def rle(height: int, width: int, compressed: bool) -> dict:
    mask = np.zeros((height, width), dtype=np.uint8, order="F")
    mask[3:9, 4:12] = 1
    packed = mask_util.encode(mask)
    if compressed:
        return {"size": [height, width], "counts": packed["counts"].decode()}
    flat = mask.reshape(-1, order="F")
    edges = np.flatnonzero(np.diff(flat)) + 1
    return {"size": [height, width], "counts": np.diff([0, *edges, len(flat)]).tolist()}


def content(seed: int = 0, images: int = 9) -> dict:
    """A file with everything that COCO has: polygons, both kinds of RLE, crowds, keypoints, odd ids and names."""
    rng = np.random.default_rng(seed)
    ids = rng.permutation(100)[:images].tolist()
    data: dict = {"info": {"a": [1, {"b": "]}"}]}, "images": [], "annotations": [], "licenses": []}
    for i in ids:
        name = f"späße/{i}.jpg" if i % 3 == 0 else f"{i}.jpg"
        data["images"].append({"id": i, "height": 40, "width": 50 + i, "file_name": name, "url": "é"})
    numbers = iter(rng.permutation(1000).tolist())
    for _ in range(4 * images):
        i = int(rng.choice(ids[:-1]))
        x, y = rng.uniform(0, 20, 2).round(2).tolist()
        anno = {
            "id": next(numbers), "image_id": i, "category_id": int(rng.choice([3, 8, 90])), "iscrowd": int(rng.random() < 0.2),
            "bbox": [x, y, 10.5, 7.25], "area": 76.0, "note": "ü\u2603 \"]}",
        }  # fmt: skip
        kind = rng.integers(5)
        anno["segmentation"] = [
            [[x, y, x + 9, y, x, y + 7]],
            [[x, y, x + 9, y, x, y + 7], [1.0, 2, 3, 4]],
            [[1.0, 2, 3, 4]],
            rle(40, 50 + i, True),
            rle(40, 50 + i, False),
        ][kind]
        if rng.random() < 0.5:
            anno["keypoints"] = [3, 4, 2, 0, 0, 0, 7, 7, 1]
        data["annotations"].append(anno)
    data["categories"] = [{"id": 90, "name": "ant"}, {"id": 3, "name": "cät"}, {"id": 8, "name": "dog"}]
    return data


@pytest.fixture
def names() -> list[str]:
    yield (used := [])
    forget(*used)


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FVCORE_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def lazy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coco_module, "LAZY_FROM_BYTES", 0)


def load(path: Path, lazily: bool, name: str | None, monkeypatch: pytest.MonkeyPatch) -> list[dict]:
    monkeypatch.setattr(coco_module, "LAZY_FROM_BYTES", 0 if lazily else 1 << 60)
    return load_coco_json(str(path), "root", name, extra_annotation_keys=["note", "area"])


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("indent", [None, 2])
def test_indexed_reading_equals_whole_reading(tmp_path, monkeypatch, names, named, indent) -> None:
    names.append("coco_test")
    path = tmp_path / "a.json"
    path.write_text(json.dumps(content(), ensure_ascii=False, indent=indent), encoding="utf-8")
    name = "coco_test" if named else None
    whole = load(path, False, name, monkeypatch)
    for again in range(2):  # the second time from the cached index
        indexed = load(path, True, name, monkeypatch)
        assert type(indexed[0]) is not dict and all(r.is_packed for r in indexed), again
        assert indexed == whole
    assert [r["image_id"] for r in whole] == sorted(r["image_id"] for r in whole)
    assert any("späße" in r["file_name"] for r in whole)
    if named:
        assert MetadataCatalog.get("coco_test").thing_classes == ["cät", "dog", "ant"]


def test_a_window_smaller_than_an_element(tmp_path, monkeypatch) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps(content(3)))
    whole = load(path, False, None, monkeypatch)
    for window in (1, 7, 100):
        monkeypatch.setattr("detectron2.data.datasets.coco_json.json_stream._WINDOW", window)
        monkeypatch.setenv("FVCORE_CACHE", str(tmp_path / f"cache{window}"))
        assert load(path, True, None, monkeypatch) == whole


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=25, deadline=None, database=None, phases=[Phase.explicit, Phase.generate])
@given(
    st.dictionaries(st.text(max_size=3), st.lists(_JSON, max_size=4), max_size=4),
    st.sampled_from([None, 1]),
    st.integers(1, 64),
)
def test_json_stream_reads_what_json_reads(tmp_path_factory, data, indent, window) -> None:
    path = tmp_path_factory.mktemp("json") / "a.json"
    raw = json.dumps(data, indent=indent, ensure_ascii=False).encode("utf-8", "surrogatepass")
    path.write_bytes(raw)
    with pytest.MonkeyPatch.context() as patch, open(path, "rb") as f:
        patch.setattr("detectron2.data.datasets.coco_json.json_stream._WINDOW", window)
        stream = JsonStream(f, "a.json")
        found = {}
        for _ in stream.keys():
            chunks = list(stream.chunks())
            spans = [span for _, starts, ends in chunks for span in zip(starts, ends)]
            assert sum(len(values) for values, _, _ in chunks) == len(spans)
            found[len(found)] = [json.loads(raw[a:b].decode("utf-8", "surrogatepass")) for a, b in spans]
    assert list(found.values()) == list(data.values())


@pytest.mark.parametrize(
    "text",
    [
        '{"a": [{"b": 1}, {"c": [{"d": 2}, {"e": 3}]} , {"f": "}, {"}]}',
        '{"a": [{"b": {"c": 1}},{"d": 2},\n{"e": {}}, {}]}',
        '{"a": [1, {"b": [{}, {}]}, {"c": 2}, 3]}',
    ],
)
def test_objects_are_told_apart_from_those_inside_of_them(tmp_path, text) -> None:
    (tmp_path / "a.json").write_text(text)
    with open(tmp_path / "a.json", "rb") as f:
        stream = JsonStream(f, "a.json")
        next(stream.keys())
        found = [item for chunk in stream.chunks() for item in zip(*chunk)]
    assert [value for value, _, _ in found] == json.loads(text)["a"]
    assert [json.loads(text[start:end]) for _, start, end in found] == json.loads(text)["a"]


@pytest.mark.parametrize("cut", [1, 30, 200, 1000])
def test_a_file_that_was_cut_off_is_named(tmp_path, lazy, cut) -> None:
    text = json.dumps(content())
    (tmp_path / "a.json").write_text(text[:-cut])
    with pytest.raises(ValueError, match=r"a\.json.*byte"):
        load_coco_json(str(tmp_path / "a.json"), "root")


def test_numbers_that_are_none_are_errors_when_their_image_is_read(tmp_path, lazy) -> None:
    data = content()
    for anno in data["annotations"]:
        anno |= {"note": "", "segmentation": []}
    (tmp_path / "a.json").write_text("7.6.0".join(json.dumps(data).rsplit("76.0", 1)))
    records = load_coco_json(str(tmp_path / "a.json"), "root")
    with pytest.raises(ValueError, match=r"a\.json: the annotation at byte \d+ is not JSON"):
        [r["annotations"] for r in records]


@pytest.mark.parametrize("lazily", [True, False])
@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda d: d["annotations"][5].update(bbox=[]), ValueError, "empty bbox"),
        (lambda d: d["annotations"][5].update(id=d["annotations"][6]["id"]), ValueError, "more than once"),
        (lambda d: d["annotations"][5].update(category_id=4), KeyError, "category_id 4"),
    ],
)
def test_defects_are_errors_that_say_where(
    tmp_path, monkeypatch, names, lazily, change, error, message
) -> None:
    names.append("coco_test")
    data = content(1)
    change(data)
    (tmp_path / "bad.json").write_text(json.dumps(data))
    with pytest.raises(error, match=message) as caught:
        load(tmp_path / "bad.json", lazily, "coco_test", monkeypatch)
    assert "bad.json" in str(caught.value)


def test_ids_that_are_text_are_read_as_a_whole(tmp_path, lazy) -> None:
    data = content()
    for entry in data["images"]:
        entry["id"] = f"i{entry['id']}"
    for anno in data["annotations"]:
        anno["image_id"] = f"i{anno['image_id']}"
    (tmp_path / "a.json").write_text(json.dumps(data))
    records = load_coco_json(str(tmp_path / "a.json"), "")
    assert type(records[0]) is dict and len(records) == 9


def test_missing_boxes_come_from_the_segmentation(tmp_path) -> None:
    data = content()
    data["annotations"] = [
        {
            "id": 1,
            "image_id": data["images"][0]["id"],
            "category_id": 3,
            "segmentation": [[2, 3, 10, 3, 10, 8]],
        },
        {"id": 2, "image_id": data["images"][0]["id"], "category_id": 3, "segmentation": rle(40, 60, True)},
    ]
    (tmp_path / "a.json").write_text(json.dumps(data))
    found = [a["bbox"] for r in load_coco_json(str(tmp_path / "a.json"), "") for a in r["annotations"]]
    assert found == [[2, 3, 8, 5], [4, 3, 8, 6]]


def test_a_lazy_record_behaves_like_a_dict(tmp_path, monkeypatch) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps(content()))
    plain = load(path, False, None, monkeypatch)
    n = next(i for i, r in enumerate(plain) if len(r["annotations"]) > 1)
    uses = {
        "getitem": lambda r: r["annotations"],
        "get": lambda r: r.get("annotations"),
        "get absent": lambda r: r.get("nothing", 5),
        "dict": lambda r: dict(r),
        "unpack": lambda r: {**r},
        "items": lambda r: sorted(r.items(), key=str),
        "values": lambda r: sorted(map(str, r.values())),
        "keys": lambda r: list(r),
        "in": lambda r: ("annotations" in r, "x" in r, len(r)),
        "or": lambda r: (r | {"x": 1}, {"x": 1} | r),
        "pop": lambda r: (r.pop("annotations"), r.pop("x", 3), dict(r)),
        "setdefault": lambda r: (r.setdefault("annotations", 1), r.setdefault("y", 2), dict(r)),
        "update": lambda r: (r.update(annotations=[], z=1), dict(r)),
        "delete": lambda r: (r.__delitem__("annotations"), dict(r)),
        "set": lambda r: (r.__setitem__("annotations", [1]), dict(r)),
        "json": lambda r: json.dumps({k: v for k, v in r.items() if k != "annotations"}),
        "copy": lambda r: (r.copy(), copy.copy(r)),
        "deepcopy": lambda r: copy.deepcopy(r),
        "pickle": lambda r: pickle.loads(pickle.dumps(r)),
        "repr": repr,
        "clear": lambda r: (r.clear(), dict(r)),
    }
    for what, use in uses.items():
        lazily = load(path, True, None, monkeypatch)[n]
        assert use(lazily) == use(copy.deepcopy(plain[n])), what
    record = load(path, True, None, monkeypatch)[n]
    record["annotations"][0]["mine"] = 7
    assert record["annotations"][0]["mine"] == 7 and not record.is_packed
    assert copy.deepcopy(record) == record and type(copy.deepcopy(record)) is dict


def _elements(dataset: DatasetFromList) -> list[dict]:
    return [dataset[i] for i in range(len(dataset))]


def _put_elements(dataset: DatasetFromList, queue: multiprocessing.Queue) -> None:
    queue.put(_elements(dataset))


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_lazy_records_reach_other_processes(tmp_path, monkeypatch, fresh_process, start) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps(content()))
    whole = load(path, False, None, monkeypatch)
    dataset = DatasetFromList(load(path, True, None, monkeypatch))
    assert dataset._lst.nbytes < 9 * 700
    if start == "spawn":
        assert fresh_process(_elements, dataset) == whole
        return
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    process = context.Process(target=_put_elements, args=(dataset, queue))
    process.start()
    assert queue.get(timeout=120) == whole
    process.join()


def test_a_file_changed_in_use_is_not_mixed_up(tmp_path, monkeypatch) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps(content(0)))
    old = load(path, True, None, monkeypatch)
    (tmp_path / "b.json").write_text(json.dumps(content(1)))
    os.replace(tmp_path / "b.json", path)
    new = load(path, True, None, monkeypatch)
    # The old records still read the file that they were made from.
    assert new == load(path, False, None, monkeypatch)
    (tmp_path / "c.json").write_text(json.dumps(content(0)))
    assert old == load(tmp_path / "c.json", False, None, monkeypatch)


def test_filters_and_counts_agree_on_packed_records(tmp_path, monkeypatch, names) -> None:
    names += ["coco_test"]
    path = tmp_path / "a.json"
    path.write_text(json.dumps(content(5, images=20)))
    found = []
    for threshold in (0, 1 << 60):
        monkeypatch.setattr(coco_module, "LAZY_FROM_BYTES", threshold)
        forget("coco_test")
        register_coco_instances("coco_test", {}, str(path), "root")
        kept = get_detection_dataset_dicts("coco_test", min_keypoints=3)
        if threshold == 0:
            assert all(r.is_packed for r in kept)
        found.append([r["image_id"] for r in kept])
    assert found[0] == found[1] and 0 < len(found[0]) < 20


def test_round_trip_through_records(tmp_path, monkeypatch, names) -> None:
    names += ["coco_a", "coco_b"]
    (tmp_path / "a.json").write_text(json.dumps(content(7)))
    register_coco_instances("coco_a", {}, str(tmp_path / "a.json"), "")
    first = DatasetCatalog.get("coco_a")
    convert_to_coco_json("coco_a", str(tmp_path / "deep" / "b.json"))
    register_coco_instances("coco_b", {}, str(tmp_path / "deep" / "b.json"), "")
    second = DatasetCatalog.get("coco_b")
    assert len(first) == len(second)
    for a, b in zip(first, second):
        assert [a[k] for k in ("file_name", "height", "width", "image_id")] == [
            b[k] for k in ("file_name", "height", "width", "image_id")
        ]
        for x, y in zip(a["annotations"], b["annotations"], strict=True):
            assert x["bbox"] == pytest.approx(y["bbox"], abs=1e-3)
            assert (x["category_id"], x["iscrowd"], x.get("keypoints")) == (
                y["category_id"],
                y["iscrowd"],
                y.get("keypoints"),
            )
            if isinstance(x["segmentation"], list):
                assert x["segmentation"] == y["segmentation"]
            else:
                packed = [
                    {**s, "counts": s["counts"].encode() if isinstance(s["counts"], str) else s["counts"]}
                    for s in (x["segmentation"], y["segmentation"])
                ]
                assert mask_util.iou([packed[0]], [packed[1]], [0])[0, 0] == 1
    assert convert_to_coco_dict("coco_b")["annotations"] == convert_to_coco_dict("coco_b")["annotations"]


def test_converting_twice_does_not_move_keypoints(names) -> None:
    names += ["coco_kp"]
    record = {"file_name": "a", "height": 9, "width": 9, "image_id": 0, "annotations": [
        {"bbox": [1, 1, 5, 5], "bbox_mode": BoxMode.XYXY_ABS, "category_id": 0, "keypoints": [2.5, 3.5, 2]}]}  # fmt: skip
    DatasetCatalog.register("coco_kp", lambda: [record])
    MetadataCatalog.get("coco_kp").thing_classes = ["x"]
    both = [convert_to_coco_dict("coco_kp")["annotations"][0]["keypoints"] for _ in range(2)]
    assert both == [[2, 3, 2]] * 2 and record["annotations"][0]["keypoints"] == [2.5, 3.5, 2]


def test_registration_reads_nothing(names) -> None:
    names += ["coco_absent"]
    register_coco_instances("coco_absent", {}, "/nowhere/a.json", "/nowhere")
    assert MetadataCatalog.get("coco_absent").json_file == "/nowhere/a.json"
    with pytest.raises(FileNotFoundError):
        DatasetCatalog.get("coco_absent")
    with pytest.raises(TypeError, match="name"):
        register_coco_instances(3, {}, "a", "b")  # type: ignore[arg-type]


def test_semantic_masks_are_paired_and_odd_pairs_are_reported(tmp_path, caplog) -> None:
    for folder, files in {
        "im/x": ["a.jpg", "b.jpg"],
        "gt/x": ["a.png", "b.png"],
        "gt2/x": ["a.png", "c.png"],
        "gt3/x": ["b.png"],
    }.items():
        (tmp_path / folder).mkdir(parents=True)
        for f in files:
            (tmp_path / folder / f).touch()

    def stems(gt):
        return [
            tuple(Path(r[k]).name for k in ("file_name", "sem_seg_file_name"))
            for r in load_sem_seg(str(tmp_path / gt), str(tmp_path / "im"))
        ]

    assert stems("gt") == [("a.jpg", "a.png"), ("b.jpg", "b.png")]
    assert stems("gt3") == [("b.jpg", "b.png")]
    caplog.clear()
    assert stems("gt2") == [("a.jpg", "a.png"), ("b.jpg", "c.png")]
    assert "no mask of the same name" in caplog.text


def test_panoptic_file(tmp_path) -> None:
    data = {
        "images": [{"id": 5, "file_name": "a.jpg"}],
        "annotations": [
            {
                "image_id": 5,
                "file_name": "a.png",
                "segments_info": [{"id": 1, "category_id": 18}, {"id": 2, "category_id": 100}],
            }
        ],
    }
    (tmp_path / "p.json").write_text(json.dumps(data))
    meta = {"thing_dataset_id_to_contiguous_id": {18: 0}, "stuff_dataset_id_to_contiguous_id": {100: 1}}
    (record,) = load_coco_panoptic_json(str(tmp_path / "p.json"), "im", "gt", meta)
    assert record["segments_info"] == [
        {"id": 1, "category_id": 0, "isthing": True},
        {"id": 2, "category_id": 1, "isthing": False},
    ]
    assert (record["file_name"], record["pan_seg_file_name"]) == (
        os.path.join("im", "a.jpg"),
        os.path.join("gt", "a.png"),
    )
    with pytest.raises(KeyError, match="100"):
        load_coco_panoptic_json(
            str(tmp_path / "p.json"), "im", "gt", {"thing_dataset_id_to_contiguous_id": {18: 0}}
        )


def test_merging_instances_and_semantic_labels() -> None:
    instances = [{"file_name": "a", "annotations": [1]}]
    labels = [{"file_name": "b", "sem_seg_file_name": "x"}, {"file_name": "a", "sem_seg_file_name": "y"}]
    assert merge_to_panoptic(instances, labels) == [
        {"file_name": "a", "annotations": [1], "sem_seg_file_name": "y"}
    ]
    with pytest.raises(ValueError, match="no semantic mask"):
        merge_to_panoptic([{"file_name": "c", "annotations": []}], labels)


def test_records_that_were_changed_are_packed_with_their_changes(tmp_path, lazy) -> None:
    (tmp_path / "a.json").write_text(json.dumps(content()))
    records = load_coco_json(str(tmp_path / "a.json"), "root", extra_annotation_keys=["id"])
    whole = [dict(r) for r in load_coco_json(str(tmp_path / "a.json"), "root", extra_annotation_keys=["id"])]
    assert all(r.is_unchanged for r in records)
    records[1]["mine"] = 7
    del records[2]["height"]
    assert [r.is_unchanged for r in records[:4]] == [True, False, False, True]
    packed = DatasetFromList(records)
    whole[1]["mine"] = 7
    del whole[2]["height"]
    assert [dict(packed[i]) for i in range(len(packed))] == whole
