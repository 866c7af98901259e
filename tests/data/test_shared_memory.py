"""Processes that know nothing of each other hold one copy of the same bytes."""

import json
import multiprocessing
import os
import pickle
import signal
import threading
from pathlib import Path

import pytest

from detectron2.data import DatasetFromList
from detectron2.data.datasets import coco, load_coco_json
from detectron2.data.datasets.coco_json import index
from detectron2.data.datasets.coco_json.write import records_to_coco
from detectron2.data.loading import shared_memory as memory

WAIT = 60


@pytest.fixture
def prefix(monkeypatch) -> str:
    """Files are shared by content, so test processes that run beside this one would hold the same ones."""
    name = f"detectron2-test-{os.getpid()}-"
    monkeypatch.setattr(memory, "SHARE_FROM_BYTES", 1)
    monkeypatch.setattr(memory, "_PREFIX", name)
    return name


@pytest.fixture
def json_file(tmp_path) -> Path:
    """A COCO file of 40 images."""
    boxes = [
        {"bbox": [1, 2, 3, 4], "bbox_mode": 1, "category_id": 0},
        {"bbox": [5, 5, 9, 9], "bbox_mode": 1, "category_id": 1},
    ]
    records = [
        {"file_name": f"{i}.jpg", "height": 20, "width": 30, "image_id": i, "annotations": boxes[: i % 3]}
        for i in range(40)
    ]
    path = tmp_path / "labels.json"
    path.write_text(json.dumps(records_to_coco(records, ["a", "b"])))
    return path


def _rank(json_file, prefix, cache, together, leave, answers) -> None:
    """What each rank of a run does: parse, pack, and train for a while."""
    os.environ["FVCORE_CACHE"] = str(cache)
    memory.SHARE_FROM_BYTES, memory._PREFIX, coco.LAZY_FROM_BYTES = 1, prefix, 0
    built, build = [], index.build_arrays
    index.build_arrays = lambda *args: built.append(args) or build(*args)
    together.wait(WAIT)
    records = load_coco_json(str(json_file), "images")
    packed = DatasetFromList(records)
    held = packed._lst._shared
    maps = Path("/proc/self/maps").read_text().splitlines()
    mapped = {line.split()[5] for line in maps if f"{cache}/" in line}
    answers.put(
        {
            "files": {held.path: os.fstat(held._handle.fileno()).st_ino},
            "index": mapped,
            "built": len(built),
            "boxes": sum(len(packed[i]["annotations"]) for i in range(len(packed))),
        }
    )
    leave.poll(WAIT)


def _files(prefix: str) -> list[Path]:
    return [p for folder in memory._folders(0) for p in folder.glob(f"{prefix}*")]


@pytest.mark.parametrize("start", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
def test_ranks_hold_one_copy_and_the_last_removes_it(json_file, prefix, tmp_path, start) -> None:
    context = multiprocessing.get_context(start)
    together, answers = context.Barrier(4), context.Queue()
    # A pipe for each: events and locks that all share would wait for the killed one.
    doors = [context.Pipe() for _ in range(4)]
    ranks = [
        context.Process(target=_rank, args=(json_file, prefix, tmp_path / "c", together, door, answers))
        for _, door in doors
    ]
    for rank in ranks:
        rank.start()
    try:
        found = [answers.get(timeout=WAIT) for _ in ranks]
        files = found[0]["files"]
        assert len(files) == 1 and {f["boxes"] for f in found} == {39}
        # One of them makes the index, and all map its file in the cache.
        assert sum(f["built"] for f in found) == 1
        assert len(found[0]["index"]) == 1 and all(f["index"] == found[0]["index"] for f in found)
        assert all(f["files"] == files for f in found)  # names and inodes
        assert {str(p): p.stat().st_ino for p in _files(prefix)} == files
        os.kill(ranks[0].pid, signal.SIGKILL)
        ranks[0].join(WAIT)
        assert all(os.path.exists(p) for p in files)
    finally:
        for rank, (door, _) in zip(ranks, doors):
            door.send("leave")
            rank.join(WAIT)
    assert [r.exitcode for r in ranks] == [-signal.SIGKILL, 0, 0, 0]
    assert _files(prefix) == []


def test_what_a_killed_run_left_is_removed_by_the_next(json_file, prefix, tmp_path) -> None:
    context = multiprocessing.get_context("fork")
    together, (_, door), answers = context.Barrier(1), context.Pipe(), context.Queue()
    rank = context.Process(target=_rank, args=(json_file, prefix, tmp_path / "c", together, door, answers))
    rank.start()
    left = answers.get(timeout=WAIT)["files"]
    os.kill(rank.pid, signal.SIGKILL)
    rank.join(WAIT)
    assert all(os.path.exists(p) for p in left)
    fresh = memory.SharedBytes([b"other"])
    assert [str(p) for p in _files(prefix)] == [fresh.path]


def test_threads_that_come_and_go_never_see_other_bytes_and_leave_nothing(prefix) -> None:
    """The last user removes the file while the next one looks for it."""
    wrong = []

    def use() -> None:
        for _ in range(60):
            shared = memory.SharedBytes([b"12345678", b"abc"])
            if shared.path is None or shared.data.tobytes() != b"12345678abc":
                wrong.append(shared.path)
            del shared

    threads = [threading.Thread(target=use) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == [] and _files(prefix) == []


def test_no_room_and_no_links_leave_a_private_copy(prefix, monkeypatch) -> None:
    def no_links(*_args) -> None:
        raise OSError("this file system has no links")

    monkeypatch.setattr(os, "link", no_links)
    shared = memory.SharedBytes([b"12345678"])
    assert shared.path is None and shared.data.tobytes() == b"12345678"
    assert pickle.loads(pickle.dumps(shared)).data.tobytes() == b"12345678"
    assert _files(prefix) == []
