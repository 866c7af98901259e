"""Lists, mapping, streams and loaders; above all: a resumed stream is the unbroken one."""

import gc
import itertools
import logging
import multiprocessing
import os
import pickle
import random
import time

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import IterableDataset, SequentialSampler

from detectron2.config import get_cfg
from detectron2.data import (
    DatasetFromList,
    MapDataset,
    ToIterableDataset,
    build_batch_data_loader,
    build_detection_test_loader,
    build_detection_train_loader,
)
from detectron2.data.common import set_default_dataset_from_list_serialize_method
from detectron2.data.detection_utils import SizeMismatchError
from detectron2.data.loading import shared_list as shared
from detectron2.data.loading import shared_memory as memory
from detectron2.data.loading.stream import stream_position
from detectron2.data.loading.tolerant import TolerantMapper
from detectron2.data.samplers import TrainingSampler
from detectron2.structures import BoxMode
from detectron2.utils import comm


def records(n: int = 23) -> list[dict]:
    rng = np.random.default_rng(0)
    return [
        {"id": i, "width": int(rng.integers(5, 15)), "height": 10, "file_name": f"{i}.jpg"} for i in range(n)
    ]


def augmented(record: dict) -> dict:
    """A mapper that draws from every generator, as augmentations do."""
    drawn = (random.random(), float(np.random.rand()), float(torch.rand(())))
    return {**record, "drawn": drawn}


def train_loader(grouped: bool = True, workers: int = 0, seed: int = 5, batch: int = 3, **kwargs):
    return build_detection_train_loader(
        records(), mapper=augmented, sampler=TrainingSampler(23, seed=seed), total_batch_size=batch,
        aspect_ratio_grouping=grouped, num_workers=workers, **kwargs,
    )  # fmt: skip


def take(loader, n: int) -> list:
    it = iter(loader)
    found = [next(it) for _ in range(n)]
    del it
    return found


@pytest.mark.parametrize("grouped", [True, False])
@pytest.mark.parametrize("workers", [0, 1, 2])
@pytest.mark.parametrize("stop", [1, 7])
def test_a_resumed_stream_is_the_unbroken_one(grouped, workers, stop) -> None:
    whole = take(train_loader(grouped), 12)
    loader = train_loader(grouped, workers)
    it = iter(loader)
    first = [next(it) for _ in range(stop)]
    state = loader.state_dict()
    del it
    # The second run has another seed of its own: the state brings the old one back.
    again = train_loader(grouped, 2 - workers, seed=99)
    again.load_state_dict(state)
    assert again.state_dict()["next"] == state["next"]
    assert first + take(again, 12 - stop) == whole


def test_resumed_twice_and_before_the_first_batch() -> None:
    whole = take(train_loader(), 12)
    loader = train_loader()
    found = []
    for _ in range(4):
        it = iter(loader)
        found += [next(it) for _ in range(3)]
        state = loader.state_dict()
        loader = train_loader()
        loader.load_state_dict(state)
        assert loader.state_dict() == state
    assert found == whole


@pytest.mark.parametrize("grouped", [True, False])
def test_other_ranks_resume_from_the_state_of_the_first(monkeypatch, grouped) -> None:
    monkeypatch.setattr(comm, "get_world_size", lambda: 2)
    whole, loaders = {}, {}
    for rank in (0, 1):
        monkeypatch.setattr(comm, "get_rank", lambda rank=rank: rank)
        whole[rank] = take(train_loader(grouped, batch=6), 11)
        loaders[rank] = train_loader(grouped, batch=6)
        take(loaders[rank], 6)
    monkeypatch.setattr(comm, "get_rank", lambda: 0)
    state = loaders[0].state_dict()
    for rank in (0, 1):
        monkeypatch.setattr(comm, "get_rank", lambda rank=rank: rank)
        again = train_loader(grouped, batch=6)
        again.load_state_dict(state)
        assert take(again, 5) == whole[rank][6:]


def test_reading_leaves_the_generators_of_the_run_alone() -> None:
    torch.manual_seed(0)
    np.random.seed(0)
    random.seed(0)
    before = torch.rand(3), np.random.rand(3), random.random()
    torch.manual_seed(0)
    np.random.seed(0)
    random.seed(0)
    take(train_loader(grouped=False), 3)
    after = np.random.rand(3), random.random()
    assert np.array_equal(before[1], after[0]) and before[2] == after[1]


@pytest.mark.parametrize("grouped", [False, True])
def test_processes_end_at_once_when_a_cycle_with_the_loader_is_collected(monkeypatch, grouped) -> None:
    # Those that nobody told to end look every 5 seconds if they should, as often as torch looks if they have ended.
    for module in (torch.utils.data._utils, torch.utils.data._utils.worker):
        monkeypatch.setattr(module, "MP_STATUS_CHECK_INTERVAL", 60)
    ended = []
    join = multiprocessing.Process.join
    monkeypatch.setattr(
        multiprocessing.Process,
        "join",
        lambda self, timeout=None: (join(self, timeout), ended.append(not self.is_alive())),
    )

    class Trainer:
        pass

    trainer = Trainer()
    trainer.itself, trainer.batches = trainer, iter(train_loader(grouped, workers=1))
    next(trainer.batches)
    del trainer
    gc.collect()
    assert ended == [True]


def test_grouped_batches_have_one_orientation() -> None:
    batches = take(train_loader(), 20)
    for batch in batches:
        assert len(batch) == 3 and len({d["width"] > d["height"] for d in batch}) == 1
    assert len({d["drawn"] for b in batches for d in b}) == 60


def test_collate_and_batch_size_errors() -> None:
    for grouped in (True, False):
        loader = train_loader(grouped, collate_fn=lambda b: [d["id"] for d in b])
        assert all(isinstance(i, int) for i in take(loader, 1)[0])
    with pytest.raises(ValueError, match="IMS_PER_BATCH"):
        build_batch_data_loader(DatasetFromList(records()), TrainingSampler(23), 0)
    with pytest.raises(ValueError, match="sampler"):
        build_batch_data_loader(DatasetFromList(records()), None, 2)


class Numbers(IterableDataset):
    def __iter__(self):
        return iter(range(10))


def test_iterable_data() -> None:
    loader = build_detection_train_loader(
        Numbers(), mapper=lambda x: x * 2 if x % 2 else None, total_batch_size=2, aspect_ratio_grouping=False
    )
    assert list(loader) == [[2, 6], [10, 14]]
    assert list(build_detection_test_loader(Numbers(), mapper=lambda x: x, batch_size=4)) == [
        [0, 1, 2, 3],
        [4, 5, 6, 7],
        [8, 9],
    ]
    with pytest.raises(ValueError, match="sampler"):
        build_detection_test_loader(Numbers(), mapper=None, sampler=SequentialSampler(range(3)))
    with pytest.raises(TypeError, match="iterable already"):
        ToIterableDataset(Numbers(), SequentialSampler(range(3)))


@pytest.mark.parametrize("workers", [0, 1, 2])
@pytest.mark.parametrize("chunk", [1, 4])
def test_a_stream_gives_every_element_once(workers, chunk) -> None:
    stream = ToIterableDataset(
        DatasetFromList(records()), SequentialSampler(range(23)), shard_chunk_size=chunk
    )
    loader = torch.utils.data.DataLoader(stream, batch_size=None, num_workers=workers, collate_fn=lambda x: x)
    assert sorted(d["id"] for d in loader) == list(range(23))
    assert len(stream) == 23


def test_test_loader_gives_each_record_once_and_raises_for_a_broken_one() -> None:
    def mapper(record: dict) -> dict:
        if record["id"] == 7:
            raise OSError("broken")
        return record

    with pytest.raises(OSError, match="broken"):
        list(build_detection_test_loader(records(), mapper=mapper))
    assert [
        d["id"] for b in build_detection_test_loader(records(6), mapper=mapper, batch_size=4) for d in b
    ] == list(range(6))


# ------------------------------------------------------------------ broken images
def breaking(share: float, error: type[Exception] = OSError):
    def mapper(record: dict) -> dict:
        if record["id"] < share * 200:
            raise error(f"cannot read {record['file_name']}")
        return record

    return mapper


def test_a_broken_image_is_replaced_counted_and_reported(caplog) -> None:
    mapper = TolerantMapper(breaking(0.02), max_share=0.1)
    data = MapDataset(records(200), mapper)
    with caplog.at_level(logging.WARNING):
        found = [data[i]["id"] for i in range(200)]
    assert mapper.count.broken >= 4 and set(mapper.count.causes) == {f"{i}.jpg" for i in range(4)}
    assert min(found) == 4 and found[4:] == list(range(4, 200))
    assert "0.jpg" in caplog.text and "cannot read" in caplog.text
    # The replacement is the same in each run.
    assert found == [
        MapDataset(records(200), TolerantMapper(breaking(0.02), 0.1))[i]["id"] for i in range(200)
    ]


def test_too_many_broken_images_stop_the_run() -> None:
    data = MapDataset(records(200), TolerantMapper(breaking(0.5), max_share=0.1))
    with pytest.raises(RuntimeError, match=r"MAX_BROKEN_SHARE[\s\S]*jpg"):
        [data[i] for i in range(200)]
    with pytest.raises(OSError):
        MapDataset(records(200), TolerantMapper(breaking(0.02), max_share=0))[0]
    with pytest.raises(KeyError):
        MapDataset(records(200), TolerantMapper(breaking(0.02, KeyError), max_share=0.5))[0]
    with pytest.raises(ValueError, match="max_share"):
        TolerantMapper(breaking(0), max_share=2)


def test_errors_are_told_apart_by_class_and_not_by_name() -> None:
    def failing(error: Exception):
        def mapper(record: dict) -> dict:
            raise error

        return TolerantMapper(mapper, max_share=1.0)

    assert failing(SizeMismatchError("other size"))({"file_name": "a.jpg"}) is None
    with pytest.raises(Exception, match="own"):
        failing(type("SizeMismatchError", (Exception,), {})("own"))({"file_name": "a.jpg"})


@pytest.mark.parametrize("workers", [0, 2])
def test_mappers_can_ask_for_the_position_in_the_stream(workers) -> None:
    loader = build_detection_train_loader(
        records(), mapper=lambda r: stream_position(), total_batch_size=2, aspect_ratio_grouping=False,
        num_workers=workers,
    )  # fmt: skip
    take(loader, 2)
    again = build_detection_train_loader(
        records(), mapper=lambda r: stream_position(), total_batch_size=2, aspect_ratio_grouping=False
    )
    again.load_state_dict(loader.state_dict())
    assert take(again, 2) == [[4, 5], [6, 7]]
    assert stream_position() is None


def test_a_sampled_stream_can_be_mapped() -> None:
    stream = ToIterableDataset(records(10), SequentialSampler(range(10)))
    data = MapDataset(stream, lambda r: r["id"] if r["id"] % 3 else None)
    assert list(data) == [r["id"] for r in records(10) if r["id"] % 3] and data.num_skipped > 0


def test_mapped_data_sets_can_be_pickled() -> None:
    data = pickle.loads(pickle.dumps(MapDataset([1, 2], str)))
    assert len(data) == 2 and data[1] == "2"
    assert list(pickle.loads(pickle.dumps(MapDataset(Numbers(), str)))) == [str(i) for i in range(10)]


@pytest.mark.parametrize("share", [0.5, 0.01])
def test_a_cut_off_file_in_a_training_from_a_config(tmp_path, caplog, share) -> None:
    """The whole way: config, files on disk, mapper, loader."""
    files = []
    for i in range(10):
        file = tmp_path / f"{i}.png"
        Image.fromarray(np.random.default_rng(i).integers(0, 255, (40, 50, 3), dtype=np.uint8)).save(file)
        box = {"bbox": [5.0, 5.0, 20.0, 20.0], "bbox_mode": BoxMode.XYXY_ABS, "category_id": 0, "iscrowd": 0}
        files.append({"file_name": str(file), "image_id": i, "height": 40, "width": 50, "annotations": [box]})
    (tmp_path / "3.png").write_bytes((tmp_path / "3.png").read_bytes()[:2000])
    cfg = get_cfg()
    cfg.DATALOADER.NUM_WORKERS, cfg.SOLVER.IMS_PER_BATCH, cfg.SEED = 0, 4, 1
    cfg.INPUT.MIN_SIZE_TRAIN, cfg.DATALOADER.MAX_BROKEN_SHARE = (40,), share
    batches = iter(build_detection_train_loader(cfg, dataset=files))
    if share == 0.5:
        seen = [r["image_id"] for _ in range(50) for r in next(batches)]
        assert len(seen) == 200 and set(seen) == {0, 1, 2, 4, 5, 6, 7, 8, 9}
        assert "3.png: OSError" in caplog.text
    else:
        with pytest.raises(
            RuntimeError, match=r"6 of \d+ images[\s\S]*MAX_BROKEN_SHARE[\s\S]*3\.png: OSError"
        ):
            for _ in range(50):
                next(batches)


def test_mapping_skips_none() -> None:
    data = MapDataset(records(50), lambda r: r["id"] if r["id"] % 5 else None)
    found = [data[i] for i in range(50)]
    assert all(f % 5 for f in found) and data.num_skipped >= 10
    data.max_attempts = 20
    data._map_func = lambda r: None
    with pytest.raises(RuntimeError, match="None"):
        data[0]


# ------------------------------------------------------------------ packed lists
@pytest.mark.parametrize("threshold", [0, 1 << 40])
def test_packed_lists_give_their_elements(monkeypatch, threshold) -> None:
    monkeypatch.setattr(memory, "SHARE_FROM_BYTES", threshold)
    items = [{"a": i, "b": np.arange(i)} for i in range(9)]
    packed = shared.SharedPackedList(items)
    assert (
        len(packed) == 9
        and packed[3]["a"] == 3
        and packed[-1]["a"] == 8
        and packed[np.int64(2)]["b"].tolist() == [0, 1]
    )
    assert [x["a"] for x in packed[2:5]] == [2, 3, 4] and packed[0] is not packed[0]
    for wrong in (9, -10):
        with pytest.raises(IndexError):
            packed[wrong]
    assert len(shared.SharedPackedList([])) == 0


@pytest.fixture
def own_prefix(monkeypatch) -> None:
    """Files are shared by content, so test processes that run beside this one would hold the same ones."""
    monkeypatch.setattr(memory, "SHARE_FROM_BYTES", 0)
    monkeypatch.setattr(memory, "_PREFIX", f"detectron2-test-{os.getpid()}-")


def _report(data: DatasetFromList) -> tuple[str, list[int]]:
    return data._lst._shared.path, [data[i]["id"] for i in range(len(data))]


def test_processes_share_one_file_and_the_last_removes_it(own_prefix, fresh_process) -> None:
    first, second = DatasetFromList(records()), DatasetFromList(records())
    path = first._lst._shared.path
    assert path and second._lst._shared.path == path
    assert fresh_process(_report, first) == (path, list(range(23)))
    assert os.path.exists(path)
    del first
    assert os.path.exists(path) and second[4]["id"] == 4
    del second
    for _ in range(100):  # the other process may still be letting go of its list, and then is the last
        if not os.path.exists(path):
            break
        time.sleep(0.1)
    assert not os.path.exists(path)


def test_files_of_killed_runs_are_swept(own_prefix) -> None:
    left = DatasetFromList([{"x": 1}])._lst._shared
    path = left.path
    left._finalizer.cancel()
    left._handle.close()
    del left
    assert os.path.exists(path)
    kept = DatasetFromList(records())
    assert not os.path.exists(path) and os.path.exists(kept._lst._shared.path)


def test_serialize_method_can_be_chosen() -> None:
    calls = []
    with set_default_dataset_from_list_serialize_method(lambda lst: calls.append(len(lst)) or list(lst)):
        DatasetFromList(records())
    DatasetFromList(records(), serialize=False)
    assert calls == [23]
    assert DatasetFromList([[1]], serialize=lambda lst: tuple(lst))[0] == [1]
    with pytest.raises(TypeError, match="serialize"):
        DatasetFromList([1], serialize=3)  # type: ignore[arg-type]


def test_elements_are_copies_unless_asked() -> None:
    items = [{"a": [1]}]
    assert DatasetFromList(items, copy=True, serialize=False)[0]["a"] is not items[0]["a"]
    assert DatasetFromList(items, copy=False, serialize=False)[0] is items[0]


def test_states_are_picklable_and_small() -> None:
    loader = train_loader()
    take(loader, 3)
    assert len(pickle.dumps(loader.state_dict())) < 2000
    assert list(itertools.islice(iter(loader), 1))


def test_numbers_are_drawn_as_in_detectron2_if_asked() -> None:
    order = list(itertools.islice(TrainingSampler(23, seed=5), 6))
    np.random.seed(3)
    want = [float(np.random.rand()) for _ in order]
    np.random.seed(3)
    found = list(itertools.chain(*take(train_loader(grouped=False, augmentation_seed="worker"), 2)))
    assert [record["id"] for record in found] == order
    assert [record["drawn"][1] for record in found] == want
    with pytest.raises(ValueError, match='"position" or "worker"'):
        train_loader(augmentation_seed="sample")


def test_workers_have_the_seeds_of_detectron2() -> None:
    torch.manual_seed(9)
    base = int(torch.empty((), dtype=torch.int64).random_())
    want = []
    for worker in range(2):  # each reads one batch of the first two
        rng = np.random.RandomState((base + worker) % 2**31 + worker)
        want += [float(rng.rand()) for _ in range(3)]
    torch.manual_seed(9)
    found = list(
        itertools.chain(*take(train_loader(grouped=False, workers=2, augmentation_seed="worker"), 2))
    )
    assert [record["drawn"][1] for record in found] == want
