"""Streams from tar files: the same records, split over workers, resumed where they stopped."""

import io
import json
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torch.utils.data import DataLoader

from detectron2.data import DatasetMapper, build_detection_train_loader
from detectron2.data.detection_utils import read_image
from detectron2.data.streaming import StreamedMapper, TarDataset, expand_shards, write_shards
from detectron2.structures import BoxMode


@pytest.fixture
def shards(tmp_path: Path) -> list[str]:
    records = []
    for i in range(23):
        file = tmp_path / f"{i}.png"
        Image.fromarray(np.full((6, 8, 3), i, np.uint8)).save(file)
        box = {"bbox": [0.0, 1.0, 2.0, 3.0], "bbox_mode": BoxMode.XYWH_ABS, "category_id": i}
        records.append({"file_name": str(file), "image_id": i, "height": 6, "width": 8, "annotations": [box]})
    return write_shards(records, str(tmp_path / "tars"), per_shard=5)


def ids(stream) -> list[int]:
    return [r["image_id"] for r in stream]


def test_records_come_back(shards) -> None:
    assert len(shards) == 5
    data = list(TarDataset(shards))
    assert ids(data) == list(range(23))
    assert data[7]["annotations"] == [
        {"bbox": [0.0, 1.0, 2.0, 3.0], "bbox_mode": BoxMode.XYWH_ABS, "category_id": 7}
    ]
    assert isinstance(data[7]["annotations"][0]["bbox_mode"], BoxMode)
    assert np.asarray(Image.open(io.BytesIO(data[7]["image_bytes"])))[0, 0, 0] == 7
    pattern = shards[0].replace("000000", "{000000..000004}")
    assert expand_shards(pattern) == shards and ids(TarDataset(pattern)) == list(range(23))


def test_shuffling_keeps_the_samples_and_follows_the_seed(shards) -> None:
    once, twice, other = (ids(TarDataset(shards, shuffle=True, buffer_size=6, seed=s)) for s in (1, 1, 2))
    assert once == twice != other and sorted(once) == list(range(23)) and once != list(range(23))


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("shuffle", [True, False])
def test_workers_split_and_a_resumed_stream_is_the_unbroken_one(shards, workers, shuffle) -> None:
    whole_pass = DataLoader(TarDataset(shards), batch_size=None, num_workers=workers, collate_fn=lambda x: x)
    assert sorted(ids(whole_pass)) == list(range(23))

    def loader():
        data = TarDataset(shards, shuffle=shuffle, buffer_size=4, repeat=True)
        return build_detection_train_loader(
            data,
            mapper=lambda r: r["image_id"],
            total_batch_size=3,
            aspect_ratio_grouping=False,
            num_workers=workers,
        )

    it = iter(loader())
    whole = [next(it) for _ in range(15)]
    first = loader()
    it = iter(first)
    head = [next(it) for _ in range(6)]
    again = loader()
    again.load_state_dict(first.state_dict())
    it = iter(again)
    assert head + [next(it) for _ in range(9)] == whole


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("grouped", [True, False])
def test_a_stream_is_resumed_behind_images_that_were_left_out(shards, workers, grouped) -> None:
    """Which samples a mapper rejects is known to the worker only; the state that is saved must count them."""

    def mapper(record: dict) -> dict | None:
        if record["image_id"] == 11:
            raise OSError("truncated file")
        return None if record["image_id"] % 4 == 1 else record

    def loader():
        return build_detection_train_loader(
            TarDataset(shards, shuffle=True, buffer_size=4, repeat=True),
            mapper=mapper, total_batch_size=3, aspect_ratio_grouping=grouped, num_workers=workers, max_broken_share=1.0,
        )  # fmt: skip

    def taken(it, number: int) -> list[list[int]]:
        return [ids(next(it)) for _ in range(number)]

    whole = taken(iter(loader()), 15)
    first = loader()
    head = taken(iter(first), 5)
    again = loader()
    again.load_state_dict(first.state_dict())
    middle = taken(iter(again), 4)
    last = loader()
    last.load_state_dict(json.loads(json.dumps(again.state_dict())))
    assert head + middle + taken(iter(last), 6) == whole


def test_a_mapper_that_reads_files(shards) -> None:
    def mapper(record: dict) -> dict:
        return {**record, "image": read_image(record["file_name"], "RGB")}

    mapped = [StreamedMapper(mapper)(r) for r in TarDataset(shards)]
    assert [int(m["image"][0, 0, 0]) for m in mapped] == list(range(23))
    assert all(m["file_name"].endswith(f"#{i:09d}") and "image_bytes" not in m for i, m in enumerate(mapped))


def test_no_file_is_open_while_a_mapper_reads_it(shards) -> None:
    """Windows refuses to open it a second time."""
    if not Path("/proc/self/fd").is_dir():
        pytest.skip("needs /proc")

    def mapper(record: dict) -> dict:
        assert Path(record["file_name"]).is_file()
        assert record["file_name"] not in [os.path.realpath(fd) for fd in Path("/proc/self/fd").iterdir()]
        return {}

    assert list(map(StreamedMapper(mapper), TarDataset(shards[0]))) == [{}] * 5


def test_the_default_mapper_reads_streamed_images(shards) -> None:
    mapper = DatasetMapper(False, augmentations=[], image_format="BGR")
    mapped = [mapper(r) for r in TarDataset(shards)]
    assert [int(m["image"][0, 0, 0]) for m in mapped] == list(range(23))
    assert mapped[0]["file_name"].endswith("#000000000") and "image_bytes" not in mapped[0]


def test_a_loader_does_not_change_the_data_it_is_given(shards) -> None:
    damage(shards[1], "all")
    data = TarDataset(shards)
    with pytest.raises(RuntimeError, match="MAX_BROKEN_SHARE"):
        list(build_detection_train_loader(data, mapper=lambda r: r, total_batch_size=1, max_broken_share=0.0))
    assert data.max_broken_share is None
    assert len(list(data)) == 18


def test_broken_samples_are_counted_and_named(tmp_path, caplog) -> None:
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        for name, content in {
            "a.json": b"{}",
            "b.jpg": b"1",
            "b.json": b"{",
            "c.jpg": b"1",
            "c.json": json.dumps({"image_id": 3}).encode(),
        }.items():
            info = tarfile.TarInfo(f"d/{name}")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    data = TarDataset(str(tmp_path / "x.tar"))
    assert ids(data) == [3] and data.num_skipped == 2
    assert "d/a: no image" in caplog.text and "d/b: broken JSON" in caplog.text
    with pytest.raises(ValueError, match="shard"):
        TarDataset([])


def damage(path: str, how: str) -> None:
    """Break a shard of 5 samples in its third one."""
    if how == "all":
        Path(path).write_bytes(b"this is no tar file" * 100)
        return
    with tarfile.open(path) as tar:
        third = [m for m in tar if m.name.endswith(".png")][2]
    content = bytearray(Path(path).read_bytes())
    if how == "header":
        content[third.offset : third.offset + 512] = b"x" * 512
    elif how == "cut between members":
        del content[third.offset :]
    elif how == "cut in a member":
        del content[third.offset_data + 10 :]
    else:
        del content[third.offset + 100 :]
    Path(path).write_bytes(content)


@pytest.mark.parametrize(
    "how", ["header", "cut between members", "cut in a member", "cut in a header", "all"]
)
def test_a_corrupt_shard_costs_its_rest(shards, caplog, how) -> None:
    damage(shards[1], how)
    left = [] if how == "all" else [5, 6]
    data = TarDataset(shards)
    assert ids(data) == [*range(5), *left, *range(10, 23)]
    assert data.num_skipped == 5 - len(left)
    assert f"{shards[1]}: unreadable after {len(left)} samples" in caplog.text


def test_too_many_corrupt_shards_stop_the_stream(shards) -> None:
    with pytest.raises(RuntimeError, match=r"data-000001\.tar: unreadable"):  # the very first loss
        damage(shards[1], "all")
        ids(TarDataset(shards, max_broken_share=0.0))
    endless = iter(TarDataset(shards, repeat=True, max_broken_share=0.5))
    assert len([next(endless) for _ in range(100)]) == 100
    with pytest.raises(RuntimeError, match="MAX_BROKEN_SHARE"):
        ids(TarDataset(shards, repeat=True, max_broken_share=0.1))
    for shard in shards:
        damage(shard, "all")
    with pytest.raises(RuntimeError, match="none of 5 shards"):
        ids(TarDataset(shards, repeat=True))
    with pytest.raises(FileNotFoundError, match=r"none\.tar"):
        ids(TarDataset("none.tar"))


def test_corrupt_members_within_the_loader(tmp_path, caplog) -> None:
    files = []
    for i in range(40):
        file = tmp_path / f"{i}.png"
        Image.fromarray(np.full((6, 8, 3), i, np.uint8)).save(file)
        if i % 20 == 3:
            file.write_bytes(file.read_bytes()[:40])
        files.append({"file_name": str(file), "image_id": i, "height": 6, "width": 8})
    shards = write_shards(files, str(tmp_path / "tars"), per_shard=10)

    def loader(share: float):
        return build_detection_train_loader(
            TarDataset(shards, repeat=True, lanes=1),
            mapper=StreamedMapper(lambda r: {**r, "image": read_image(r["file_name"], "RGB")}),
            total_batch_size=2,
            aspect_ratio_grouping=False,
            max_broken_share=share,
        )

    it = iter(loader(0.06))
    seen = [r["image_id"] for _ in range(40) for r in next(it)]
    # The next sample stands in for a broken one; the second pass begins with the second shard.
    once = [i + (i % 20 == 3) for i in range(40)]
    assert seen == once + once[10:] + once[:10] and "data-000000.tar#000000003" in caplog.text
    with pytest.raises(RuntimeError, match=r"share of 0\.02"):
        list(loader(0.02))
    with pytest.raises(OSError):
        list(loader(0.0))
