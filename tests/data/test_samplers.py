"""Samplers: their shares, their order, their state."""

import itertools
from collections import Counter

import numpy as np
import pytest
import torch
from torch.utils.data import SequentialSampler

from detectron2.config import get_cfg
from detectron2.data import DatasetCatalog, MetadataCatalog, get_detection_dataset_dicts
from detectron2.data.catalog import forget
from detectron2.data.samplers import (
    TRAIN_SAMPLER_REGISTRY,
    GroupedBatchSampler,
    InferenceSampler,
    RandomSubsetTrainingSampler,
    RepeatFactorTrainingSampler,
    TrainingSampler,
    WeightedIndexSampler,
    build_train_sampler,
    class_balanced_weights,
)
from detectron2.utils import comm


def take(sampler, n: int) -> list[int]:
    return list(itertools.islice(iter(sampler), n))


def on_ranks(monkeypatch: pytest.MonkeyPatch, world: int, make, n: int) -> list[list[int]]:
    monkeypatch.setattr(comm, "get_world_size", lambda: world)
    found = []
    for rank in range(world):
        monkeypatch.setattr(comm, "get_rank", lambda rank=rank: rank)
        found.append(take(make(), n))
    return found


MAKERS = [
    pytest.param(lambda seed: TrainingSampler(7, seed=seed), id="training"),
    pytest.param(
        lambda seed: RandomSubsetTrainingSampler(20, 0.4, seed_shuffle=seed, seed_subset=seed), id="subset"
    ),
    pytest.param(
        lambda seed: RepeatFactorTrainingSampler(torch.tensor([1, 2.5, 0.5]), seed=seed), id="repeat"
    ),
    pytest.param(lambda seed: WeightedIndexSampler(torch.tensor([1, 0, 3.0]), seed=seed), id="weighted"),
]


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("world", [1, 2, 3])
def test_ranks_deal_out_one_stream(monkeypatch, make, world) -> None:
    whole = on_ranks(monkeypatch, 1, lambda: make(5), 30)[0]
    parts = on_ranks(monkeypatch, world, lambda: make(5), 30 // world)
    assert [parts[i % world][i // world] for i in range(30)] == whole


@pytest.mark.parametrize("make", MAKERS)
def test_state_restores_the_stream(make) -> None:
    first, second = make(5), make(6)
    assert take(first, 40) != take(second, 40)
    second.load_state_dict(first.state_dict())
    assert take(first, 40) == take(second, 40)


def test_an_unseeded_sampler_differs_between_runs() -> None:
    assert len({tuple(take(TrainingSampler(50), 20)) for _ in range(4)}) > 1


@pytest.mark.parametrize("size", range(1, 12))
@pytest.mark.parametrize("world", [1, 2, 4, 7])
def test_inference_blocks_cover_everything_once(size, world) -> None:
    blocks = [list(InferenceSampler._get_local_indices(size, world, r)) for r in range(world)]
    assert list(itertools.chain(*blocks)) == list(range(size))
    assert max(map(len, blocks)) - min(map(len, blocks)) <= 1


def test_repeat_factors_are_met_on_average() -> None:
    factors = torch.tensor([1.0, 2.5, 1.25, 0.5])
    n = 21000
    counts = Counter(take(RepeatFactorTrainingSampler(factors, seed=1), n))
    share = factors / factors.sum()
    assert np.allclose([counts[i] / n for i in range(4)], share, atol=0.01)


def test_weights_are_met_on_average() -> None:
    counts = Counter(take(WeightedIndexSampler(torch.tensor([1.0, 0, 2, 5, 0]), seed=2), 20000))
    assert set(counts) == {0, 2, 3}
    assert np.allclose([counts[i] / 20000 for i in (0, 2, 3)], [1 / 8, 2 / 8, 5 / 8], atol=0.02)


@pytest.mark.parametrize("bad", [[], [-1.0, 2], [0.0, 0], [float("nan")]])
def test_bad_weights_are_refused(bad) -> None:
    with pytest.raises(ValueError):
        RepeatFactorTrainingSampler(torch.tensor(bad))
    if bad:
        with pytest.raises(ValueError):
            WeightedIndexSampler(torch.tensor(bad))


def test_class_balanced_weights_make_classes_equal() -> None:
    records = [{"annotations": [{"category_id": int(i % 10 == 0)}]} for i in range(200)] + [
        {"annotations": []}
    ]
    picked = take(WeightedIndexSampler(class_balanced_weights(records), seed=0), 8000)
    rare = sum(i < 200 and i % 10 == 0 for i in picked) / len(picked)
    assert abs(rare - 0.5) < 0.03
    assert class_balanced_weights(records, power=0.0).unique().tolist() == [1.0]


def test_grouped_batches_against_the_obvious() -> None:
    ids = np.random.default_rng(0).integers(0, 3, 50)
    batches = list(GroupedBatchSampler(SequentialSampler(range(50)), ids, 4))
    assert all(len(b) == 4 and len({ids[i] for i in b}) == 1 for b in batches)
    for group in range(3):
        mine = [i for b in batches if ids[b[0]] == group for i in b]
        assert mine == np.flatnonzero(ids == group)[: len(mine)].tolist()
    with pytest.raises(TypeError, match="Sampler"):
        GroupedBatchSampler([1, 2], [0, 0], 1)


@pytest.fixture
def two_sets():
    for name, n in (("samp_a", 30), ("samp_b", 10)):
        records = [
            {
                "file_name": "x",
                "image_id": i,
                "annotations": [{"category_id": i % 2, "bbox": [0, 0, 1, 1], "bbox_mode": 0}],
            }
            for i in range(n)
        ]
        DatasetCatalog.register(name, lambda r=records: r)
        MetadataCatalog.get(name).thing_classes = ["p", "q"]
    yield ("samp_a", "samp_b")
    forget("samp_a", "samp_b")


@pytest.mark.parametrize(
    ("name", "key", "value", "share_b"),
    [
        ("TrainingSampler", None, None, 0.25),
        ("WeightedTrainingSampler", "DATASETS.TRAIN_REPEAT_FACTOR", [1.0, 3.0], 0.5),
        ("WeightedTrainingSampler", "DATASETS.TRAIN_REPEAT_FACTOR", [("samp_b", 3.0)], 0.5),
        ("MultiDatasetTrainingSampler", "DATASETS.TRAIN_WEIGHTS", [1.0, 4.0], 0.8),
        ("ClassBalancedTrainingSampler", "DATALOADER.CLASS_BALANCE_POWER", 1.0, 0.25),
        ("WeightedCategoryTrainingSampler", "DATALOADER.REPEAT_THRESHOLD", 0.1, 0.25),
        ("RepeatFactorTrainingSampler", "DATALOADER.REPEAT_THRESHOLD", 0.1, 0.25),
    ],
)
def test_samplers_from_a_config(two_sets, name, key, value, share_b) -> None:
    cfg = get_cfg()
    cfg.merge_from_list(["DATASETS.TRAIN", two_sets, "DATALOADER.SAMPLER_TRAIN", name, "SEED", 3])
    if key:
        cfg.merge_from_list([key, value])
    records = get_detection_dataset_dicts(two_sets)
    assert records.lengths == {"samp_a": 30, "samp_b": 10}
    picked = take(build_train_sampler(cfg, records), 4000)
    assert abs(sum(i >= 30 for i in picked) / 4000 - share_b) < 0.03


def test_subset_and_unknown_sampler(two_sets) -> None:
    cfg = get_cfg()
    cfg.merge_from_list(
        [
            "DATASETS.TRAIN",
            two_sets,
            "DATALOADER.SAMPLER_TRAIN",
            "RandomSubsetTrainingSampler",
            "DATALOADER.RANDOM_SUBSET_RATIO",
            0.25,
        ]
    )
    assert len(set(take(build_train_sampler(cfg, get_detection_dataset_dicts(two_sets)), 200))) == 10
    cfg.DATALOADER.SAMPLER_TRAIN = "TraningSampler"
    with pytest.raises(KeyError, match="TrainingSampler"):
        build_train_sampler(cfg, [1])
    assert "TrainingSampler" in TRAIN_SAMPLER_REGISTRY
    cfg.merge_from_list(
        ["DATALOADER.SAMPLER_TRAIN", "MultiDatasetTrainingSampler", "DATASETS.TRAIN_WEIGHTS", [1.0]]
    )
    with pytest.raises(ValueError, match="TRAIN_WEIGHTS"):
        build_train_sampler(cfg, get_detection_dataset_dicts(two_sets))
