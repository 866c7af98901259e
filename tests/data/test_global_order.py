"""The order of training images does not depend on the numbers of ranks and workers, nor on where a run was resumed."""

import itertools
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from detectron2.data import build_detection_train_loader
from detectron2.data.loading.lanes import Lane
from detectron2.data.samplers import (
    RandomSubsetTrainingSampler,
    RepeatFactorTrainingSampler,
    TrainingSampler,
    WeightedIndexSampler,
)
from detectron2.data.streaming import TarDataset, write_shards
from detectron2.utils import comm

TOTAL = 12  # images per batch over all ranks
COUNT = 47


def records() -> list[dict]:
    rng = np.random.default_rng(0)
    return [
        {"id": i, "width": int(rng.integers(5, 15)), "height": 10, "file_name": f"{i}.png"}
        for i in range(COUNT)
    ]


def augmented(record: dict) -> tuple:
    """Draws from every generator, as augmentations do."""
    return record["id"], random.random(), float(np.random.rand()), float(torch.rand(()))


def loader(source, grouped: bool, workers: int = 0, total: int = TOTAL):
    dataset, sampler = source()
    mapper = (lambda r: {**r, "drawn": augmented(r)}) if grouped else augmented
    return build_detection_train_loader(
        dataset, mapper=mapper, sampler=sampler, total_batch_size=total, aspect_ratio_grouping=grouped,
        num_workers=workers,
    )  # fmt: skip


def seen(monkeypatch, world: int, steps: int, make, states=None) -> tuple[list[set], list[dict]]:
    """Return what the ranks together see in each step, and the states they save afterwards."""
    ranks, after = [], []
    monkeypatch.setattr(comm, "get_world_size", lambda: world)
    for rank in range(world):
        monkeypatch.setattr(comm, "get_rank", lambda rank=rank: rank)
        one = make()
        if states is not None:
            one.load_state_dict(states[rank % len(states)])
        batches = iter(one)
        ranks.append([next(batches) for _ in range(steps)])
        after.append(one.state_dict())
    together = [list(itertools.chain.from_iterable(parts)) for parts in zip(*ranks)]
    return [{d["drawn"] if isinstance(d, dict) else d for d in batch} for batch in together], after


def shuffled():
    return records(), TrainingSampler(COUNT, seed=5)


@pytest.fixture
def shards(tmp_path: Path):
    for record in records():
        Image.fromarray(np.zeros((2, 2, 3), np.uint8)).save(tmp_path / record["file_name"])
    files = [{**r, "file_name": str(tmp_path / r["file_name"])} for r in records()]
    paths = write_shards(files, str(tmp_path / "tars"), per_shard=5)
    return lambda **kwargs: lambda: (TarDataset(paths, repeat=True, **kwargs), None)


@pytest.mark.parametrize("grouped", [True, False])
@pytest.mark.parametrize("workers", [0, 2])
def test_any_number_of_ranks_and_workers_sees_the_same_batches(monkeypatch, grouped, workers) -> None:
    want, _ = seen(monkeypatch, 1, 9, lambda: loader(shuffled, grouped))
    assert all(len(batch) == TOTAL for batch in want) and len(set.union(*want)) == 9 * TOTAL
    for world in (2, 4) if workers == 0 else (1, 3):
        assert seen(monkeypatch, world, 9, lambda: loader(shuffled, grouped, workers))[0] == want


@pytest.mark.parametrize(
    "make",
    [
        lambda: RandomSubsetTrainingSampler(COUNT, 0.5, seed_shuffle=1, seed_subset=2),
        lambda: RepeatFactorTrainingSampler(
            torch.rand(COUNT, generator=torch.Generator().manual_seed(0)) + 0.5, seed=1
        ),
        lambda: WeightedIndexSampler(torch.arange(COUNT) + 1.0, seed=1),
    ],
)
def test_every_sampler_deals_out_the_same_batches(monkeypatch, make) -> None:
    def build():
        return loader(lambda: (records(), make()), True)

    assert seen(monkeypatch, 3, 5, build)[0] == seen(monkeypatch, 1, 5, build)[0]


def test_grouped_batches_have_one_orientation_on_all_ranks(monkeypatch) -> None:
    upright = {r["id"]: r["width"] <= r["height"] for r in records()}
    for batch in seen(monkeypatch, 4, 9, lambda: loader(shuffled, True))[0]:
        assert len({upright[drawn[0]] for drawn in batch}) == 1


@pytest.mark.parametrize("grouped", [True, False])
def test_a_run_goes_on_with_other_numbers_of_ranks(monkeypatch, grouped) -> None:
    want, _ = seen(monkeypatch, 1, 12, lambda: loader(shuffled, grouped))
    found, states = seen(monkeypatch, 4, 5, lambda: loader(shuffled, grouped))
    for world, steps in ((2, 3), (3, 4)):
        more, states = seen(
            monkeypatch, world, steps, lambda: loader(shuffled, grouped, world % 2), states[:1]
        )
        found += more
    assert found == want


def test_another_batch_size_goes_on_with_the_images_that_were_not_used(monkeypatch) -> None:
    first, states = seen(monkeypatch, 2, 3, lambda: loader(shuffled, True))
    rest, _ = seen(monkeypatch, 1, 3, lambda: loader(shuffled, True, total=8), states)
    whole, _ = seen(monkeypatch, 1, 20, lambda: loader(shuffled, True))
    assert not set.union(*first) & set.union(*rest) and set.union(*rest) <= set.union(*whole)


@pytest.mark.parametrize(("lanes", "shuffle"), [(1, True), (4, True), (24, False)])
def test_tar_shards_have_one_order(monkeypatch, shards, shuffle, lanes) -> None:
    source = shards(shuffle=shuffle, buffer_size=8, seed=3, lanes=lanes)
    want, _ = seen(monkeypatch, 1, 8, lambda: loader(source, False))
    assert len(set.union(*want)) == 8 * TOTAL
    for world, workers in ((4, 0), (1, 2), (3, 2)) if (lanes, shuffle) == (4, True) else ((2, 0),):
        assert seen(monkeypatch, world, 8, lambda n=workers: loader(source, False, n))[0] == want
    found, states = seen(monkeypatch, 4, 3, lambda: loader(source, False))
    more, states = seen(monkeypatch, 2, 2, lambda: loader(source, False), states[:1])
    last, _ = seen(monkeypatch, 3, 3, lambda: loader(source, False), states[:1])
    assert found + more + last == want


def test_lanes_show_every_sample_once_a_pass(shards) -> None:
    dataset, _ = shards(lanes=5)()
    ids = [r["id"] for r in itertools.islice(dataset, 3 * COUNT)]
    counts = np.bincount(ids, minlength=COUNT)
    assert counts.sum() == 3 * COUNT and counts.min() >= 2 and counts.max() <= 4


def test_a_rejected_sample_is_replaced_by_the_next_of_its_lane(monkeypatch, shards) -> None:
    def build(workers=0):
        dataset, _ = shards(lanes=2)()
        return build_detection_train_loader(
            dataset, mapper=lambda r: None if r["id"] % 3 == 0 else r["id"], total_batch_size=4,
            aspect_ratio_grouping=False, num_workers=workers,
        )  # fmt: skip

    want, _ = seen(monkeypatch, 1, 6, build)
    assert seen(monkeypatch, 2, 6, lambda: build(2))[0] == want
    assert not any(i % 3 == 0 for i in set.union(*want))


def test_a_lane_forgets_what_it_passed() -> None:
    lane = Lane(itertools.count())
    assert list(itertools.islice(lane, 3)) == [0, 1, 2]
    lane.go_to(2)
    assert list(itertools.islice(lane, 2)) == [2, 3] and len(lane._ahead) == 2
    lane.go_to(7)
    assert next(iter(lane)) == 7 and len(lane._ahead) == 1


class Backwards(TrainingSampler):
    def __iter__(self):
        return (COUNT - 1 - i for i in super().__iter__())


def test_a_sampler_with_an_order_of_its_own_keeps_it() -> None:
    found = []
    for kind in (TrainingSampler, Backwards):
        source = lambda kind=kind: (records(), kind(COUNT, seed=3))  # noqa: E731
        batches = itertools.islice(loader(source, grouped=True, total=1), COUNT)
        found.append([batch[0]["id"] for batch in batches])
    assert found[1] == [COUNT - 1 - i for i in found[0]]
