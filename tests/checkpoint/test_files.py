"""Reading and writing of files: nothing runs, nothing is lost, damage is seen."""

import io
import os
import pickle
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from detectron2.checkpoint import (
    BrokenCheckpointError,
    UnsafeCheckpointError,
    make_model_card,
    read_checkpoint_file,
    read_model_card,
    save_safetensors,
    verify_checkpoint_file,
)
from detectron2.checkpoint.files.torch_files import write_checkpoint_file


class Evil:
    """Creates a file when it is unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return (open, (self.path, "w"))


@pytest.mark.parametrize("name", ["evil.pth", "evil.pkl", "evil_legacy.pth", "evil.pyth"])
def test_malicious_files_raise_and_run_nothing(tmp_path, name):
    target, mark = tmp_path / name, tmp_path / "ran"
    data = {"model": {"w": torch.zeros(2)}, "x": Evil(mark)}
    if name.endswith(".pkl"):
        target.write_bytes(pickle.dumps({"model": {}, "x": Evil(mark)}))
    else:
        torch.save(data, target, _use_new_zipfile_serialization="legacy" not in name)
    with pytest.raises(UnsafeCheckpointError, match="code"):
        read_checkpoint_file(target)
    assert not mark.exists()
    pickle.loads(pickle.dumps(Evil(mark))).close()  # the fixture does harm where it is let
    assert mark.exists()


@pytest.mark.parametrize(
    "payload",
    [
        b"cos\nsystem\n(S'true'\ntR.",
        b"cbuiltins\neval\n(S'1'\ntR.",
        b"c__builtin__\ngetattr\n(S'a'\nS'upper'\ntR.",
        b"cnumpy\nload\n(S'x'\ntR.",
        b"ctorch\nload\n(S'x'\ntR.",
        b"cposix\nsystem\n(S'true'\ntR.",
        b"cnumpy.core.multiarray\n_reconstruct.__globals__\n.",
        b"Pxyz\n.",
    ],
)
def test_pickles_that_name_other_things_are_refused(tmp_path, payload):
    path = tmp_path / "x.pkl"
    path.write_bytes(payload)
    with pytest.raises(UnsafeCheckpointError):
        read_checkpoint_file(path)


def test_a_tensor_inside_a_plain_pickle_is_read_with_the_same_care(tmp_path):
    buffer = io.BytesIO()
    torch.save(Evil(tmp_path / "ran"), buffer)

    class Storage:
        def __reduce__(self):
            return (torch.storage._load_from_bytes, (buffer.getvalue(),))

    path = tmp_path / "x.pkl"
    path.write_bytes(pickle.dumps(Storage()))
    with pytest.raises((UnsafeCheckpointError, BrokenCheckpointError)):
        read_checkpoint_file(path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("content", [b"hello", b"jw\x01\x02\x03\n", b"K5q\x00"])
def test_the_reason_for_a_damaged_file_is_no_bare_number(tmp_path, content):
    path = tmp_path / "x.pth"
    path.write_bytes(content)
    with pytest.raises(BrokenCheckpointError, match=r"bytes\): \D{5}"):
        read_checkpoint_file(path)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_zoo_pickles_round_trip(tmp_path, protocol):
    data = {
        "model": {
            "f4": np.arange(6, dtype="f4").reshape(2, 3),
            "i8": np.arange(3),
            "scalar": np.float64(2.5),
            "f2": np.ones(2, "f2"),
            "bool": np.array([True, False]),
            "empty": np.zeros((0, 4), "f4"),
            "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        },
        "__author__": "us",
        "nested": [1, 2.5, None, ("a", {3})],
    }
    path = tmp_path / "zoo.pkl"
    path.write_bytes(pickle.dumps(data, protocol=protocol))
    got = read_checkpoint_file(path)
    for key, value in data["model"].items():
        np.testing.assert_array_equal(got["model"][key], value)
        assert got["model"][key].dtype == value.dtype
    assert got["nested"] == data["nested"]


def test_plain_pickle_with_tensors(tmp_path):
    want = {"model": {"a": torch.arange(4.0), "p": torch.nn.Parameter(torch.ones(2, 2))}}
    path = tmp_path / "t.pkl"
    path.write_bytes(pickle.dumps(want))
    got = read_checkpoint_file(path)
    assert torch.equal(got["model"]["a"], want["model"]["a"])
    assert torch.equal(got["model"]["p"], want["model"]["p"])


def test_pth_with_arrays_and_numpy_scalars(tmp_path):
    path = tmp_path / "a.pth"
    torch.save({"model": {"w": np.arange(3.0)}, "iteration": np.int64(7), "best": np.float32(0.5)}, path)
    got = read_checkpoint_file(path)
    np.testing.assert_array_equal(got["model"]["w"], [0, 1, 2])
    assert got["iteration"] == 7
    assert got["best"] == 0.5


def test_every_truncation_is_detected(tmp_path):
    path = tmp_path / "whole.pth"
    write_checkpoint_file({"model": {"w": torch.arange(300.0)}, "iteration": 1}, path)
    verify_checkpoint_file(path)
    whole = path.read_bytes()
    broken = tmp_path / "broken.pth"
    for size in [0, 1, 3, 4, 50, len(whole) // 2, len(whole) - 23, len(whole) - 1]:
        broken.write_bytes(whole[:size])
        with pytest.raises(BrokenCheckpointError, match=r"broken\.pth"):
            verify_checkpoint_file(broken)
        with pytest.raises(BrokenCheckpointError):
            read_checkpoint_file(broken)


def test_a_flipped_bit_in_a_weight_is_detected(tmp_path):
    path = tmp_path / "w.pth"
    weight = torch.arange(300.0)
    write_checkpoint_file({"model": {"w": weight}}, path)
    data = bytearray(path.read_bytes())
    at = data.find(weight.numpy().tobytes())
    assert at > 0
    data[at + 100] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(BrokenCheckpointError, match="checksum"):
        verify_checkpoint_file(path)


def test_safetensors_round_trip_with_card(tmp_path):
    pytest.importorskip("safetensors")
    path = tmp_path / "m.safetensors"
    shared = torch.arange(6.0).reshape(2, 3)
    card = make_model_card(classes=["cat", "dog"], config="A: 1\n", config_kind="yacs")
    save_safetensors({"a": shared, "b": shared, "t": shared.T}, path, card)
    got = read_checkpoint_file(path)
    assert torch.equal(got["model"]["a"], shared)
    assert torch.equal(got["model"]["t"], shared.T)
    assert read_model_card(path) == card
    verify_checkpoint_file(path)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(BrokenCheckpointError):
        verify_checkpoint_file(path)
    with pytest.raises(BrokenCheckpointError):
        read_checkpoint_file(path)


def test_model_card(tmp_path):
    path = tmp_path / "m.pth"
    card = make_model_card(classes=["a", "ä"], config="X: 1", config_kind="lazy", stuff_classes=["sky"])
    write_checkpoint_file({"model": {}, "model_card": card}, path)
    assert read_model_card(path) == card
    assert card["stuff_classes"] == ["sky"]
    write_checkpoint_file({"model": {}}, path)
    assert read_model_card(path) is None
    with pytest.raises(ValueError, match="config_kind"):
        make_model_card(config="X: 1")
    with pytest.raises(FileNotFoundError):
        read_model_card(tmp_path / "none.pth")


def test_a_full_disk_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "m.pth"
    write_checkpoint_file({"model": {"w": torch.zeros(2)}}, path)

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match=r"No space left.*intact"):
        write_checkpoint_file({"model": {"w": torch.ones(2)}}, path)
    monkeypatch.undo()
    assert torch.equal(read_checkpoint_file(path)["model"]["w"], torch.zeros(2))
    assert os.listdir(tmp_path) == ["m.pth"]


SAVER = """
import sys, torch
from detectron2.checkpoint import Checkpointer
net = torch.nn.Linear(700, 700)
c = Checkpointer(net, sys.argv[1])
i = 0
while True:
    c.save(f"model_{i % 3:07d}", iteration=i)
    print(i, flush=True)
    i += 1
"""


@pytest.mark.slow
def test_kill_while_saving_leaves_a_whole_checkpoint(tmp_path):
    from detectron2.checkpoint import Checkpointer

    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    for attempt in range(3):
        folder = tmp_path / str(attempt)
        command = [sys.executable, "-c", SAVER, str(folder)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, env=env) as child:
            assert child.stdout is not None
            for _ in range(4):
                last = int(child.stdout.readline())
            time.sleep(0.003 * (attempt + 1))
            child.send_signal(signal.SIGKILL)
            last = max([last, *(int(x) for x in child.stdout.read().split())])
        rest = Checkpointer(torch.nn.Linear(700, 700), str(folder)).resume_or_load("")
        assert rest["iteration"] >= last
        assert not [n for n in os.listdir(folder) if n.endswith(".tmp")]
