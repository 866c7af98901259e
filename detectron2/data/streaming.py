"""Stream data from tar files, on disk or in any store that ``PathManager`` opens.

The layout is that of WebDataset: the files of one sample are adjacent and share their name up to the first dot
(``0001.jpg``, ``0001.json``). The JSON file contains a record without ``file_name``, the image file its image.
:func:`write_shards` writes such tar files from any records.
"""

from __future__ import annotations

import io
import itertools
import json
import logging
import lzma
import os
import random
import tarfile
import tempfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch.utils.data as torchdata

from detectron2.structures import BoxMode
from detectron2.utils import comm
from detectron2.utils.file_io import PathManager
from detectron2.utils.file_io.atomic import atomic_write
from detectron2.utils.image_io import IMAGE_SUFFIXES
from detectron2.utils.json_values import plain

from .loading.lanes import Turn, turns
from .loading.tolerant import BrokenCount

__all__ = ["StreamedMapper", "TarDataset", "expand_shards", "write_shards"]

if TYPE_CHECKING:
    from typing_extensions import Self

logger = logging.getLogger(__name__)

# Errors of damaged or truncated shards, of their compression, and of failing stores.
_TAR_ERRORS = (tarfile.TarError, EOFError, OSError, zlib.error, lzma.LZMAError)
# Only these undocumented errors of tarfile distinguish a broken shard from a complete one.
_NO_HEADER = tarfile.EmptyHeaderError  # type: ignore[attr-defined]
_BAD_HEADER = (tarfile.InvalidHeaderError, tarfile.TruncatedHeaderError)  # type: ignore[attr-defined]


def expand_shards(pattern: str | Sequence[str]) -> list[str]:
    """List the shards of a pattern such as ``data/train-{000..063}.tar``, or of a list of patterns.

    Raises:
        ValueError: a pattern names no shard.
    """
    if not isinstance(pattern, str):
        return [name for p in pattern for name in expand_shards(p)]
    if "{" not in pattern:
        return [pattern]
    head, rest = pattern.split("{", 1)
    span, tail = rest.split("}", 1)
    first, last = span.split("..")
    width = len(first)
    names = [f"{head}{i:0{width}d}{tail}" for i in range(int(first), int(last) + 1)]
    if not names:
        raise ValueError(f"{pattern} names no shard")
    return [name for n in names for name in expand_shards(n)]


def write_shards(
    records: Iterable[dict[str, Any]], folder: str, prefix: str = "data", per_shard: int = 1000
) -> list[str]:
    """Pack records and their images into tar files.

    Args:
        records: with ``file_name``.
        folder: target folder.
        prefix: of the file names.
        per_shard: samples per file.

    Returns:
        The files written.
    """
    paths: list[str] = []
    it = iter(records)
    for shard in itertools.count():
        part = list(itertools.islice(it, per_shard))
        if not part:
            break
        path = Path(folder) / f"{prefix}-{shard:06d}.tar"
        with atomic_write(path, "wb") as f, tarfile.open(fileobj=f, mode="w") as tar:
            for number, record in enumerate(part):
                _add_sample(tar, f"{shard * per_shard + number:09d}", record)
        paths.append(str(path))
    return paths


def _add_sample(tar: tarfile.TarFile, key: str, record: dict[str, Any]) -> None:
    source = record["file_name"]
    with PathManager.open(source, "rb") as f:
        image = f.read()
    rest = json.dumps(plain({k: v for k, v in record.items() if k != "file_name"})).encode()
    for ending, content in ((Path(source).suffix.lower().lstrip("."), image), ("json", rest)):
        member = tarfile.TarInfo(f"{key}.{ending}")
        member.size = len(content)
        tar.addfile(member, io.BytesIO(content))


class _StrictInfo(tarfile.TarInfo):
    """Raises an error for a broken header or a missing end mark, which Python silently takes as the end of the tar.

    A complete tar ends with two blocks of zeros; one that was truncated between two members lacks them.
    """

    @classmethod
    def fromtarfile(cls, tarfile_: tarfile.TarFile) -> Self:
        try:
            return super().fromtarfile(tarfile_)
        except tarfile.HeaderError as error:
            if isinstance(error, _NO_HEADER) and tarfile_.offset:
                raise tarfile.ReadError(f"cut off at byte {tarfile_.offset}: no end mark") from error
            if isinstance(error, _BAD_HEADER):
                raise tarfile.ReadError(f"broken header at byte {tarfile_.offset}: {error}") from error
            raise


def _members(shard: str) -> Iterator[tuple[str, str, bytes]]:
    """Yield the key, extension and content of each file of a shard, in one pass."""
    with PathManager.open(shard, "rb") as f, tarfile.open(fileobj=f, mode="r|*", tarinfo=_StrictInfo) as tar:
        for member in tar:
            content = tar.extractfile(member) if member.isfile() else None
            if content is None:
                continue
            folder, _, name = member.name.rpartition("/")
            stem, _, ending = name.partition(".")
            yield f"{folder}/{stem}" if folder else stem, ending.lower(), content.read()


def _samples(shard: str) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Yield the key and files of each sample of a shard; after an error, first the last sample if it is complete."""
    key = ""
    parts: dict[str, bytes] = {}
    try:
        for here, ending, content in _members(shard):
            if here != key and parts:
                yield key, parts
                parts = {}
            key = here
            parts[ending] = content
    except _TAR_ERRORS:
        if "json" in parts and len(parts) > 1:
            yield key, parts
        raise
    if parts:
        yield key, parts


class TarDataset(torchdata.IterableDataset):
    """Records from tar shards, with the image as bytes, split over ranks and workers.

    Each record has ``image_bytes`` and ``file_name`` (shard and key, for messages) besides the keys of its JSON file.
    ``DatasetMapper`` reads them; wrap a mapper that opens files in :class:`StreamedMapper`. Samples without an image or
    with broken JSON, and the rest of a shard after an unreadable position, are left out, logged, and counted in
    ``num_skipped``; the number of samples in the rest of a shard is estimated by the largest shard read so far.

    One pass gives each reader its own shards. An endless stream (``repeat``) consists of ``lanes``, which take turns: lane l
    reads the shards l, l + ``lanes``, … of all passes. So the order does not depend on the numbers of ranks and workers, and
    a training goes on at its position with any of them. A reader opens the lanes that have samples of its own; if the
    number of readers (ranks times workers) divides ``lanes``, no sample is read twice. A resumed stream skips what was
    used without decoding it. In place of a sample that a mapper rejects, the next of its lane is used.

    Args:
        shards: names, or a pattern such as ``s3://bucket/train-{000..063}.tar``.
        shuffle: shuffle the shards in each pass, and samples within a buffer.
        buffer_size: samples in the buffers of all lanes; 1 keeps the order within a shard.
        seed: of both orders.
        repeat: start again after the last shard, as training requires; pass n begins with shard n.
        lanes: parts of the endless stream, at most the number of shards; another number gives another order.
        max_broken_share: share of the samples, 0 to 1, that each reader may lose before it stops; 0 stops it at the
            first loss. None uses the value of :func:`build_detection_train_loader`
            (``DATALOADER.MAX_BROKEN_SHARE``), or 1 without that function.
    """

    def __init__(
        self,
        shards: str | Sequence[str],
        *,
        shuffle: bool = False,
        buffer_size: int = 100,
        seed: int = 0,
        repeat: bool = False,
        lanes: int = 24,
        max_broken_share: float | None = None,
    ) -> None:
        self.shards = expand_shards(shards)
        if not self.shards:
            raise ValueError("no shards named")
        self.shuffle, self.buffer_size, self.seed, self.repeat = shuffle, max(1, buffer_size), seed, repeat
        self.max_broken_share = max_broken_share
        self._count = BrokenCount(1.0 if max_broken_share is None else max_broken_share)
        self.lanes = max(1, min(lanes, len(self.shards)))
        self._largest = 0
        self.start_at(0)

    @property
    def num_skipped(self) -> int:
        """Number of samples left out in this process."""
        return self._count.broken

    @property
    def numbers_samples(self) -> bool:
        """Whether samples have positions: in an endless stream."""
        return self.repeat

    def start_at(
        self, position: int, waiting: Sequence[int] = (), seed: tuple[int, ...] | None = None
    ) -> None:
        """Set where iterations of an endless stream begin.

        Args:
            position: in the stream of this rank.
            waiting: earlier positions to read as well.
            seed: not used: reading a record draws no random numbers.
        """
        self._first, self._waiting = position, frozenset(waiting)
        self._place = comm.get_rank(), comm.get_world_size()

    def _order(self, epoch: int) -> list[str]:
        shards = list(self.shards)
        if self.shuffle:
            random.Random(f"{self.seed}/{epoch}").shuffle(shards)
        return shards

    def _one_pass(self) -> Iterator[dict[str, Any]]:
        info = torchdata.get_worker_info()
        worker, workers = (0, 1) if info is None else (info.id, info.num_workers)
        rank, world = self._place
        number, count = rank * workers + worker, world * workers
        mine = self._order(0)[number::count]
        if not mine:
            logger.warning("%d shards for %d readers: reader %d has none", len(self.shards), count, number)
        return self._records(mine, self.buffer_size, number)

    def _lane(self, number: int) -> Iterator[dict[str, Any]]:
        """Yield the records of a lane, endlessly."""
        # Each pass begins one shard later, so that a lane does not meet the same shards in each pass.
        passes = ((self._order(e), e % len(self.shards)) for e in itertools.count())
        shards = itertools.chain.from_iterable(order[e:] + order[:e] for order, e in passes)
        buffer = -(-self.buffer_size // self.lanes)
        return self._records(itertools.islice(shards, number, None, self.lanes), buffer, number)

    def turns(self) -> Iterator[Turn[dict[str, Any]]]:
        """Yield the samples of this reader in an endless stream."""
        return turns(self._lane, self.lanes, self._place, self._first, self._waiting)

    def numbered(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yield the position in the stream of this rank and the record of each sample."""
        return ((turn.position, next(turn.elements)) for turn in self.turns())

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (record for _, record in self.numbered()) if self.repeat else self._one_pass()

    def _records(self, shards: Iterable[str], buffer_size: int, reader: int) -> Iterator[dict[str, Any]]:
        samples = self._mixed(self._raw(shards), buffer_size, reader)
        return (r for r in (self._record(name, parts) for name, parts in samples) if r is not None)

    def _raw(self, shards: Iterable[str]) -> Iterator[tuple[str, dict[str, bytes]]]:
        read = 0
        for read, shard in enumerate(shards, 1):
            yield from self._read_shard(shard)
            if read >= len(self.shards):
                self._check_readable(read)
        self._check_readable(read)

    def _check_readable(self, shards: int) -> None:
        if shards and self._largest == 0 and self._count.causes:
            causes = "\n".join(f"  {name}: {why}" for name, why in self._count.causes.items())
            raise RuntimeError(f"none of {shards} shards has a readable sample:\n{causes}")

    def _read_shard(self, shard: str) -> Iterator[tuple[str, dict[str, bytes]]]:
        """Yield the samples of a shard up to the first unreadable position."""
        number = 0
        try:
            for key, parts in _samples(shard):
                number += 1
                yield f"{shard}#{key}", parts
        except FileNotFoundError as error:
            raise FileNotFoundError(f"shard {shard} does not exist") from error
        except _TAR_ERRORS as error:
            lost = max(1, self._largest - number)
            self._count.read += lost
            cause = f"unreadable after {number} samples, {lost} lost: {type(error).__name__}: {error}"
            self._count.add(shard, cause, lost, error)
        self._largest = max(self._largest, number)

    def _mixed(
        self, samples: Iterator[tuple[str, dict[str, bytes]]], buffer_size: int, reader: int
    ) -> Iterator[tuple[str, dict[str, bytes]]]:
        if not self.shuffle or buffer_size == 1:
            yield from samples
            return
        rng = random.Random(f"{self.seed}/buffer/{reader}")
        held: list[tuple[str, dict[str, bytes]]] = []
        for sample in samples:
            held.append(sample)
            if len(held) >= buffer_size:
                at = rng.randrange(len(held))
                held[at], held[-1] = held[-1], held[at]
                yield held.pop()
        rng.shuffle(held)
        yield from held

    def _record(self, name: str, parts: dict[str, bytes]) -> dict[str, Any] | None:
        self._count.read += 1
        image = next((parts[e[1:]] for e in IMAGE_SUFFIXES if e[1:] in parts), None)
        try:
            record = json.loads(parts.get("json", b"{}"))
        except ValueError:  # not JSON, or not UTF-8
            record = None
        if image is None or not isinstance(record, dict):
            self._count.add(name, "no image" if image is None else "broken JSON")
            return None
        try:
            for anno in record.get("annotations", ()):
                if "bbox_mode" in anno:
                    anno["bbox_mode"] = BoxMode(anno["bbox_mode"])
        except (ValueError, TypeError) as error:
            self._count.add(name, f"unreadable annotations ({error})")
            return None
        return {**record, "file_name": name, "image_bytes": image}

    def with_max_broken_share(self, share: float) -> TarDataset:
        """Return the same stream with another ``max_broken_share``."""
        return TarDataset(
            self.shards,
            shuffle=self.shuffle,
            buffer_size=self.buffer_size,
            seed=self.seed,
            repeat=self.repeat,
            lanes=self.lanes,
            max_broken_share=share,
        )


class StreamedMapper:
    """Lets a mapper that opens ``file_name`` work on records with ``image_bytes``, through a temporary file.

    ``DatasetMapper`` does not need it: it reads the bytes.

    Args:
        mapper: maps a record.
    """

    def __init__(self, mapper: Callable[[dict[str, Any]], Any]) -> None:
        self.mapper = mapper

    def __call__(self, record: dict[str, Any]) -> Any:
        """Map one record; records without ``image_bytes`` are passed on unchanged."""
        if "image_bytes" not in record:
            return self.mapper(record)
        rest = {k: v for k, v in record.items() if k != "image_bytes"}
        folder = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
        with tempfile.TemporaryDirectory(dir=folder, prefix="detectron2-sample-") as place:
            file = Path(place) / "image"
            file.write_bytes(record["image_bytes"])
            mapped = self.mapper({**rest, "file_name": str(file)})
        if isinstance(mapped, dict) and mapped.get("file_name") == str(file):
            mapped["file_name"] = record["file_name"]
        return mapped
