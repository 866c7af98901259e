import io
import os
import pickle
import resource
import struct
from collections import OrderedDict, defaultdict

import numpy as np
import pytest
import torch

from detectron2.utils.file_io.safe_pickle import UnsafeCheckpointError, restricted_load, restricted_torch_load


class Calls:
    """Pickles as a call."""

    def __init__(self, function, *arguments, state=None):
        self.parts = (function, arguments) if state is None else (function, arguments, state)

    def __reduce__(self):
        return self.parts


def name(module, attribute):
    return f"c{module}\n{attribute}\n".encode()


def text(value):
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def raw(value):
    return b"B" + struct.pack("<I", len(value)) + value


HEAD, END = b"\x80\x04", b"."
ARRAYS = [
    np.arange(6, dtype="f4").reshape(2, 3),
    np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    np.arange(3, dtype=">i8"),
    np.zeros((0, 4), "u1"),
    np.array(2.5),
    np.array([True, False]),
    np.array([1 + 2j]),
    np.array(["a", "bcd"]),
    np.array([b"a", b"bcd"]),
    np.float32(1.5),
    np.int64(-3),
    np.str_("word"),
]


def same(a, b):
    return (
        type(a) is type(b)
        and a.dtype in (b.dtype, b.dtype.newbyteorder())
        and a.shape == b.shape
        and bool(np.all(a == b))
    )


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_arrays_come_back_from_every_protocol(protocol):
    got = restricted_load(pickle.dumps({"list": ARRAYS, "tuple": (ARRAYS[0], [ARRAYS[2]])}, protocol))
    assert all(same(a, b) for a, b in zip(got["list"], ARRAYS, strict=True))
    assert same(got["tuple"][0], ARRAYS[0])
    assert same(got["tuple"][1][0], ARRAYS[2])
    got["list"][0][0, 0] = 7  # arrays are writable
    assert got["list"][0].flags.writeable


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_values_and_containers_come_back(protocol):
    data = {"set": {1, 2}, "frozen": frozenset("a"), "bytes": b"\xff\x00", "none": None, "big": 1 << 80}
    data |= {"ordered": OrderedDict(a=[1]), "default": defaultdict(list, a=[2]), "complex": 1j, "empty": b""}
    data |= {"bytearray": bytearray(b"abc"), "dtype": torch.float16, "size": torch.Size([2, 3])}
    data["itself"] = data
    got = restricted_load(pickle.dumps(data, protocol))
    assert got["itself"] is got
    del got["itself"], data["itself"]
    assert got == data
    got["default"]["new"].append(1)
    assert got["default"]["new"] == [1]


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_tensors_in_a_plain_pickle_come_back(protocol):
    whole = torch.arange(12.0).reshape(3, 4)
    got = restricted_load(pickle.dumps({"t": whole[:, 1:3], "p": torch.nn.Parameter(whole)}, protocol))
    assert torch.equal(got["t"], whole[:, 1:3])
    assert isinstance(got["p"], torch.nn.Parameter)
    model = torch.nn.Linear(2, 1)
    state = restricted_load(pickle.dumps(model.state_dict(), protocol))
    assert state._metadata == model.state_dict()._metadata


def test_arrays_of_python_2_are_read():
    # numpy.arange(2, dtype="<i2") as Python 2 wrote it, with bytes as text.
    body = b"cnumpy.core.multiarray\n_reconstruct\np1\n(cnumpy\nndarray\np2\n(I0\ntp3\nS'b'\np4\ntp5\nRp6\n"
    body += b"(I1\n(I2\ntp7\ncnumpy\ndtype\np8\n(S'i2'\np9\nI0\nI1\ntp10\nRp11\n(I3\nS'<'\np12\nNNNI-1\nI-1\nI0\ntp13\nb"
    body += b"I00\nS'\\x00\\x00\\x01\\x00'\np14\ntp15\nb."
    assert same(restricted_load(body), np.array([0, 1], "<i2"))


def dtype(kind, state):
    return name("numpy", "dtype") + text(kind) + b"K\x00K\x01\x87R(K\x03" + state + b"tb"


def array(shape, made_dtype, data):
    start = (
        name("numpy.core.multiarray", "_reconstruct") + name("numpy", "ndarray") + b"K\x00\x85" + raw(b"b")
    )
    return start + b"\x87R(K\x01K" + bytes([shape]) + b"\x85" + made_dtype + b"\x89" + raw(data) + b"tb"


SIMPLE = text("<") + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00"
HOSTILE = {
    "object array from bytes": name("numpy", "ndarray") + b"(K\x01\x85" + text("O") + raw(b"A" * 8) + b"tR",
    "array without its builder": name("numpy", "ndarray") + b"K\x08\x85\x81",
    "object dtype": dtype("O8", SIMPLE),
    "structured dtype": dtype("V16", text("|") + b"N" + text("a") + b"\x85}K\x10K\x01K\x00"),
    "dtype with a subarray": dtype("f4", text("<") + text("O") + b"K\x09\x85\x86NNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00"),
    "negative size": dtype("S8", text("|") + b"NNNJ\xf8\xff\xff\xffJ\x01\x00\x00\x00K\x00"),
    "too few bytes": array(9, dtype("f4", SIMPLE), b"A" * 8),
    "too many bytes": array(1, dtype("f4", SIMPLE), b"A" * 8),
    "array without a dtype": array(1, text("f4"), b"A" * 4),
    "number of too few bytes": name("numpy.core.multiarray", "scalar") + dtype("f8", SIMPLE) + raw(b"A") + b"\x86R",
    "state on a class": name("numpy", "dtype") + b"N}" + text("type") + b"K\x01s\x86b",
    "state on a function": name("numpy._core.numeric", "_frombuffer") + b"}" + text("__defaults__") + b"K\x01sb",
    "a billion zeros": name("builtins", "bytes") + b"J\x00\x00\x00\x40\x85R",
    "a billion zeros, mutable": name("builtins", "bytearray") + b"J\x00\x00\x00\x40\x85R",
    "class of an array": name("numpy.dtypes", "Float32DType") + b")R",
    "system": name("os", "system") + text("true") + b"\x85R",
}  # fmt: skip


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_pickles_are_refused(kind):
    with pytest.raises(UnsafeCheckpointError):
        restricted_load(HEAD + HOSTILE[kind] + END)


@pytest.mark.parametrize(
    "offset, size, stride", [(0, (100,), (1,)), (3, (2,), (1,)), (0, (2, 2), (4, 1)), (-1, (1,), (1,))]
)
def test_tensors_outside_of_their_storage_are_refused(offset, size, stride):
    storage = torch.storage.TypedStorage(
        wrap_storage=torch.zeros(4).untyped_storage(), dtype=torch.float32, _internal=True
    )
    evil = Calls(torch._utils._rebuild_tensor_v2, storage, offset, size, stride, False, OrderedDict())
    with pytest.raises(UnsafeCheckpointError, match="storage"):
        restricted_load(pickle.dumps(evil))


@pytest.mark.parametrize("content", [
    b"\x80\x02Nr\xff\xff\xff\xff.",  # a place number that the unpickler in C would allocate
    b"\x80\x05\x96\xff\xff\xff\xff\xff\x00\x00\x00.",  # a terabyte, it says
    b"\x80\x04\x8e\xff\xff\xff\xff\xff\x00\x00\x00.",
    b"\x80\x04" + b"]" * 1000 + b"a" * 999 + b".",
    b"\x80\x04.", b"", b"\x80\x04}K\x01", b"garbage", b"\x80\xff.", b"(t0.", b"h\x05.",
])  # fmt: skip
def test_damaged_pickles_end_in_one_kind_of_error(content):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if content.startswith(b"\x80\x02N"):
        assert restricted_load(content) is None
    else:
        with pytest.raises(pickle.UnpicklingError, match=r"some\.pkl"):
            restricted_load(content, "some.pkl")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # KiB


def test_any_single_changed_byte_is_an_error_or_harmless():
    content = pickle.dumps({"a": ARRAYS[0], "b": [ARRAYS[2], 1.5, "text"]}, 2)
    rng = np.random.default_rng(0)
    for _ in range(300):
        changed = bytearray(content)
        changed[rng.integers(len(content))] = rng.integers(256)
        try:
            restricted_load(bytes(changed))
        except (UnsafeCheckpointError, pickle.UnpicklingError):
            pass


def test_names_may_be_added_and_are_not_changed():
    class Record:
        pass

    path = f"{__name__}.Record"
    body = name(__name__, "Record") + b")\x81}" + text("a") + b"K\x01sb"
    with pytest.raises(UnsafeCheckpointError, match="Record"):
        restricted_load(HEAD + body + END)
    got = restricted_load(HEAD + body + END, names={path: Record})
    assert type(got) is Record
    assert got.a == 1
    with pytest.raises(UnsafeCheckpointError, match="attributes"):
        restricted_load(
            HEAD + name(__name__, "Record") + b"}" + text("a") + b"K\x01sb" + END, names={path: Record}
        )
    assert not hasattr(Record, "a")


def test_pytorch_files_hold_arrays_with_the_same_care(tmp_path):
    torch.save({"arrays": ARRAYS, "t": torch.ones(2)}, tmp_path / "good.pth")
    got = restricted_torch_load(tmp_path / "good.pth")
    assert all(same(a, b) for a, b in zip(got["arrays"], ARRAYS, strict=True))
    evil = {
        "objects": np.array([object], dtype=object),
        "structured": np.zeros(2, [("a", "f4"), ("b", "O")]),
        "dtype": Calls(
            np.dtype, "f4", False, True, state=(3, "<", (np.dtype("O"), (9,)), None, None, -1, -1, 0)
        ),
        "size": Calls(np.dtype, "S8", False, True, state=(3, "|", None, None, None, -8, 1, 0)),
        "bytes": Calls(np.ndarray, (1,), "O", b"A" * 8),
        "bare": Calls(np.ndarray.__new__, np.ndarray, (1,), "O"),
        "system": Calls(os.system, "true"),
    }
    for kind, value in evil.items():
        file = io.BytesIO()
        torch.save({"x": value}, file)
        file.seek(0)
        with pytest.raises((UnsafeCheckpointError, pickle.UnpicklingError)):
            restricted_torch_load(file)
            pytest.fail(f"{kind} was read")
