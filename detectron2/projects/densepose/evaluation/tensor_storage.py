"""Storage of records of tensors of fixed shapes, in memory or in a file, for one process or several.

Dense maps of a whole test set do not fit into memory, so a file holds them, and one process reads the files of all.
"""

import io
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
import torch

from detectron2.utils import comm

__all__ = [
    "MultiProcessFileTensorStorage",
    "MultiProcessRamTensorStorage",
    "MultiProcessTensorStorage",
    "SingleProcessFileTensorStorage",
    "SingleProcessRamTensorStorage",
    "SingleProcessTensorStorage",
    "SizeData",
    "own_storage",
    "storage_gather",
]


@dataclass
class SizeData:
    """Type and shape of one tensor of a record.

    Attributes:
        dtype: name of the type, such as ``"float32"``.
        shape: sizes.
    """

    dtype: str
    shape: tuple[int, ...]

    @property
    def num_bytes(self) -> int:
        """Size of the tensor in bytes."""
        return int(np.prod(self.shape)) * np.dtype(self.dtype).itemsize


class SingleProcessTensorStorage:
    """Records of one process, consecutive in a binary stream.

    Args:
        data_schema: type and shape of each tensor of a record, by name.
        storage_impl: seekable binary stream.
    """

    def __init__(self, data_schema: Mapping[str, SizeData], storage_impl: IO[bytes]) -> None:
        self.data_schema = dict(data_schema)
        self.record_size_b = sum(size.num_bytes for size in self.data_schema.values())
        self.storage_impl = storage_impl
        self.next_record_id = 0

    def get(self, record_id: int) -> dict[str, torch.Tensor]:
        """Read a record.

        Args:
            record_id: number that :meth:`put` returned.

        Returns:
            Name to tensor, on the CPU.

        Raises:
            ValueError: there is no such record.
        """
        content = b""
        if record_id >= 0:
            self.storage_impl.seek(record_id * self.record_size_b)
            content = self.storage_impl.read(self.record_size_b)
        if len(content) != self.record_size_b:
            raise ValueError(f"the storage has no record {record_id}")
        record, start = {}, 0
        for name, size in sorted(self.data_schema.items()):
            array = np.frombuffer(content[start : start + size.num_bytes], dtype=size.dtype)
            record[name] = torch.from_numpy(array.reshape(size.shape).copy())
            start += size.num_bytes
        return record

    def put(self, data: Mapping[str, torch.Tensor]) -> int:
        """Write a record.

        Args:
            data: name to tensor, matching the schema.

        Returns:
            The number of the record.

        Raises:
            ValueError: the tensors or their types and shapes do not match the schema.
        """
        if set(data) != set(self.data_schema):
            raise ValueError(f"a record must have the tensors {sorted(self.data_schema)}, got {sorted(data)}")
        arrays = []
        for name, size in sorted(self.data_schema.items()):
            array = data[name].detach().cpu().numpy()
            if array.shape != tuple(size.shape) or array.dtype != np.dtype(size.dtype):
                raise ValueError(
                    f"{name!r} must have type {size.dtype} and shape {tuple(size.shape)}, "
                    f"got {array.dtype} and {array.shape}"
                )
            arrays.append(array)
        self.storage_impl.seek(self.next_record_id * self.record_size_b)
        for array in arrays:
            self.storage_impl.write(array.tobytes())
        self.next_record_id += 1
        return self.next_record_id - 1


class SingleProcessFileTensorStorage(SingleProcessTensorStorage):
    """Records of one process in a file.

    Args:
        data_schema: see :class:`SingleProcessTensorStorage`.
        fpath: path of the file.
        mode: mode to open it in, with ``b``.
    """

    def __init__(self, data_schema: Mapping[str, SizeData], fpath: str, mode: str) -> None:
        if "b" not in mode:
            raise ValueError(f"mode must be a binary one, such as 'wb' or 'rb', got {mode!r}")
        self.fpath = fpath
        super().__init__(data_schema, open(fpath, mode))

    def __del__(self) -> None:
        # Nobody closes storages; without this, Python warns about an open file.
        if hasattr(self, "storage_impl"):
            self.storage_impl.close()


class SingleProcessRamTensorStorage(SingleProcessTensorStorage):
    """Records of one process in memory.

    Args:
        data_schema: see :class:`SingleProcessTensorStorage`.
        buf: holds the records.
    """

    def __init__(self, data_schema: Mapping[str, SizeData], buf: io.BytesIO) -> None:
        super().__init__(data_schema, buf)


class MultiProcessTensorStorage:
    """Records of several processes.

    Args:
        rank_to_storage: rank of a process to its records.
    """

    def __init__(self, rank_to_storage: Mapping[int, SingleProcessTensorStorage]) -> None:
        self.rank_to_storage = dict(rank_to_storage)

    def get(self, rank: int, record_id: int) -> dict[str, torch.Tensor]:
        """Read a record of one process, see :meth:`SingleProcessTensorStorage.get`."""
        return self.rank_to_storage[rank].get(record_id)

    def put(self, rank: int, data: Mapping[str, torch.Tensor]) -> int:
        """Write a record of one process, see :meth:`SingleProcessTensorStorage.put`."""
        return self.rank_to_storage[rank].put(data)


class MultiProcessFileTensorStorage(MultiProcessTensorStorage):
    """Records of several processes in one file each.

    Args:
        data_schema: see :class:`SingleProcessTensorStorage`.
        rank_to_fpath: rank of a process to its file.
        mode: mode to open them in.
    """

    def __init__(
        self, data_schema: Mapping[str, SizeData], rank_to_fpath: Mapping[int, str], mode: str
    ) -> None:
        super().__init__(
            {r: SingleProcessFileTensorStorage(data_schema, f, mode) for r, f in rank_to_fpath.items()}
        )


class MultiProcessRamTensorStorage(MultiProcessTensorStorage):
    """Records of several processes in memory.

    Args:
        data_schema: see :class:`SingleProcessTensorStorage`.
        rank_to_buffer: rank of a process to the buffer of its records.
    """

    def __init__(self, data_schema: Mapping[str, SizeData], rank_to_buffer: Mapping[int, io.BytesIO]) -> None:
        super().__init__(
            {r: SingleProcessRamTensorStorage(data_schema, b) for r, b in rank_to_buffer.items()}
        )


def storage_gather(
    storage: SingleProcessTensorStorage, dst_rank: int = 0
) -> MultiProcessTensorStorage | None:
    """Give one process access to the records of all; every process must call it.

    Records in files are read from the files, so all processes must share a file system; records in memory are sent.

    Args:
        storage: records of this process.
        dst_rank: rank of the process that reads.

    Returns:
        The records of all on ``dst_rank``, None elsewhere.
    """
    sources: list[Any] = comm.gather(_source(storage), dst=dst_rank)
    if comm.get_rank() != dst_rank:
        return None
    return _reader(storage, dict(enumerate(sources)))


def own_storage(storage: SingleProcessTensorStorage) -> MultiProcessTensorStorage:
    """Give access only to the records of this process, without waiting for others."""
    return _reader(storage, {comm.get_rank(): _source(storage)})


def _source(storage: SingleProcessTensorStorage) -> str | bytes:
    """Return the source of a process's records: the path of their file, or the records themselves."""
    if isinstance(storage, SingleProcessFileTensorStorage):
        storage.storage_impl.flush()
        return os.path.abspath(storage.fpath)
    if isinstance(storage, SingleProcessRamTensorStorage):
        storage.storage_impl.seek(0)
        return storage.storage_impl.read()
    raise TypeError(f"cannot read a storage of type {type(storage).__name__} from another process")


def _reader(storage: SingleProcessTensorStorage, sources: dict[int, Any]) -> MultiProcessTensorStorage:
    if isinstance(storage, SingleProcessFileTensorStorage):
        return MultiProcessFileTensorStorage(storage.data_schema, sources, "rb")
    buffers = {rank: io.BytesIO(content) for rank, content in sources.items()}
    return MultiProcessRamTensorStorage(storage.data_schema, buffers)
