"""Saving, resuming, reports and the files of other origin."""

import logging
import os
import pickle

import pytest
import torch
from torch import nn

from detectron2.checkpoint import (
    BrokenCheckpointError,
    Checkpointer,
    DetectionCheckpointer,
    PeriodicCheckpointer,
    make_model_card,
    read_model_card,
)
from detectron2.checkpoint.c2_model_loading import align_and_update_state_dicts, match_by_suffix
from detectron2.checkpoint.input_channels import adapt_weight
from detectron2.utils.unwrap import unwrap_model


class Net(nn.Module):
    def __init__(self, channels=3, classes=4):
        super().__init__()
        self.stem = nn.Module()
        self.stem.conv1 = nn.Conv2d(channels, 5, 3)
        self.head = nn.Linear(5, classes)


def equal(a, b):
    return all(torch.equal(v, b.state_dict()[k]) for k, v in a.state_dict().items())


def test_round_trip_of_model_and_optimizer(tmp_path):
    net = Net()
    opt = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    sum(p.sum() for p in net.parameters()).backward()
    opt.step()
    saver = DetectionCheckpointer(net, str(tmp_path), optimizer=opt)
    saver.save("x", iteration=3)
    other = Net()
    opt2 = torch.optim.SGD(other.parameters(), lr=0.5)
    loader = DetectionCheckpointer(other, str(tmp_path), optimizer=opt2)
    assert loader.resume_or_load("") == {"iteration": 3}
    assert equal(net, other)
    assert opt2.param_groups[0]["lr"] == 0.1
    assert loader.last_report.complete
    assert loader.resumed_from == str(tmp_path / "x.pth")
    with pytest.raises(KeyError, match="optimizer"):
        saver.add_checkpointable("optimizer", opt)
    with pytest.raises(TypeError, match="state_dict"):
        saver.add_checkpointable("thing", 3)


def test_resume_passes_over_a_truncated_checkpoint(tmp_path, caplog):
    net = Net()
    saver = Checkpointer(net, str(tmp_path))
    for i in range(3):
        saver.save(f"model_{i:07d}", iteration=i)
        os.utime(tmp_path / f"model_{i:07d}.pth", (1000 + i, 1000 + i))
    last = tmp_path / "model_0000002.pth"
    last.write_bytes(last.read_bytes()[:-100])
    with caplog.at_level(logging.WARNING):
        rest = Checkpointer(Net(), str(tmp_path)).resume_or_load("")
    assert rest["iteration"] == 1
    assert "model_0000002.pth" in caplog.text
    assert "truncated" in caplog.text
    last.unlink()
    assert Checkpointer(Net(), str(tmp_path)).resume_or_load("")["iteration"] == 1
    for i in range(2):
        (tmp_path / f"model_{i:07d}.pth").write_bytes(b"PK\x03\x04")
    with pytest.raises(BrokenCheckpointError, match="none is complete"):
        Checkpointer(Net(), str(tmp_path)).resume_or_load("")


def test_usable_after_a_failed_load(tmp_path):
    net = Net()
    torch.save({"model": net.state_dict()}, tmp_path / "good.pth")
    (tmp_path / "bad.pth").write_bytes(b"nonsense")
    loader = DetectionCheckpointer(Net())
    with pytest.raises(BrokenCheckpointError):
        loader.load(str(tmp_path / "bad.pth?matching_heuristics=True"))
    with pytest.raises(FileNotFoundError, match=r"good\.pth"):
        loader.load(str(tmp_path / "god.pth"))
    rest = loader.load(str(tmp_path / "good.pth"))
    assert rest == {}  # nothing of the failed load is left, heuristics neither
    assert equal(net, loader.model)


def test_report_says_what_and_why(tmp_path, caplog):
    weights = Net(classes=7).state_dict()
    weights["heads.weight"] = torch.zeros(4)
    del weights["stem.conv1.bias"]
    torch.save(weights, tmp_path / "w.pth")
    loader = DetectionCheckpointer(Net())
    with caplog.at_level(logging.INFO):
        loader.load(str(tmp_path / "w.pth"))
    report = loader.last_report
    assert report.loaded == ["stem.conv1.weight"]
    assert {n for n, _, _ in report.mismatched} == {"head.weight", "head.bias"}
    assert report.missing == ["stem.conv1.bias"]
    assert report.unexpected == ["heads.weight"]
    table = report.table()
    assert table in caplog.text
    for text in (
        "(7, 5) in the file, (4, 5) in the model",
        "stem.conv1.bias",
        "heads.weight",
        "1 weights loaded",
    ):
        assert text in table


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 6])
def test_first_convolution_is_fitted(tmp_path, channels):
    torch.save(Net().state_dict(), tmp_path / "w.pth")
    source = Net()
    torch.save(source.state_dict(), tmp_path / "w.pth")
    loader = DetectionCheckpointer(Net(channels))
    loader.load(str(tmp_path / "w.pth"))
    assert loader.last_report.complete
    assert len(loader.last_report.adapted) == (channels != 3)
    grey = torch.rand(1, 1, 8, 8)
    want = source.stem.conv1(grey.expand(-1, 3, -1, -1))
    torch.testing.assert_close(loader.model.stem.conv1(grey.expand(-1, channels, -1, -1)), want)
    if channels > 3:  # colours keep their filters, up to the factor
        kept = loader.model.stem.conv1.weight[:, :3] * channels / 3
        torch.testing.assert_close(kept, source.stem.conv1.weight)
    loader.adapt_input_channels = False
    loader.load(str(tmp_path / "w.pth"))
    assert loader.last_report.complete == (channels == 3)


def test_adapt_weight_from_grey():
    weight = torch.rand(4, 1, 3, 3)
    torch.testing.assert_close(adapt_weight(weight, 3).sum(1, keepdim=True), weight)


def test_model_card_is_stored(tmp_path):
    saver = Checkpointer(Net(), str(tmp_path))
    saver.model_card = make_model_card(classes=["a"])
    saver.save("x")
    assert read_model_card(tmp_path / "x.pth")["classes"] == ["a"]
    assert "model_card" in Checkpointer(Net()).load(str(tmp_path / "x.pth"))


def test_periodic_keeps_the_newest_also_over_a_resume(tmp_path):
    def names():
        return sorted(n for n in os.listdir(tmp_path) if n.startswith("model_0"))

    first = PeriodicCheckpointer(Checkpointer(Net(), str(tmp_path)), 2, max_to_keep=2)
    for i in range(7):
        first.step(i)
    assert names() == ["model_0000003.pth", "model_0000005.pth"]
    saver = Checkpointer(Net(), str(tmp_path))
    assert saver.resume_or_load("")["iteration"] == 5
    second = PeriodicCheckpointer(saver, 2, max_iter=10, max_to_keep=2)
    for i in range(6, 10):
        second.step(i)
    assert names() == ["model_0000007.pth", "model_0000009.pth"]
    assert os.path.exists(tmp_path / "model_final.pth")
    with pytest.raises(ValueError, match="max_to_keep"):
        PeriodicCheckpointer(saver, 2, max_to_keep=0)


def test_a_fresh_run_leaves_files_of_an_older_one_alone(tmp_path):
    Checkpointer(Net(), str(tmp_path)).save("model_0000001", iteration=1)
    p = PeriodicCheckpointer(Checkpointer(Net(), str(tmp_path)), 3, max_to_keep=1)
    for i in range(9):
        p.step(i)
    assert {"model_0000001.pth", "model_0000008.pth"} <= set(os.listdir(tmp_path))
    assert "model_0000005.pth" not in os.listdir(tmp_path)


def test_prefixes_of_wrappers(tmp_path):
    net = Net()
    torch.save(
        {"model": {"module._orig_mod." + k: v for k, v in net.state_dict().items()}}, tmp_path / "w.pth"
    )
    other = Net()
    DetectionCheckpointer(other).load(str(tmp_path / "w.pth"))
    assert equal(net, other)
    assert unwrap_model(nn.DataParallel(net)) is net
    assert unwrap_model(torch.compile(net, backend="eager")) is net


def test_shared_parameters_are_not_missing(tmp_path):
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Linear(2, 2)
            self.b = self.a

    net = Tied()
    torch.save({"model": {k: v for k, v in net.state_dict().items() if k[0] == "a"}}, tmp_path / "w.pth")
    loader = DetectionCheckpointer(Tied())
    loader.load(str(tmp_path / "w.pth"))
    assert loader.last_report.complete


def test_a_state_that_is_no_tensor_is_refused(tmp_path):
    with open(tmp_path / "x.pkl", "wb") as f:
        pickle.dump({"model": {"head.weight": "text"}, "__author__": "x"}, f)
    with pytest.raises(BrokenCheckpointError, match=r"x\.pkl.*head\.weight"):
        DetectionCheckpointer(Net()).load(str(tmp_path / "x.pkl"))


def slow_match(model_keys, ckpt_keys):
    found = {}
    for key in model_keys:
        fitting = [c for c in ckpt_keys if key == c or key.endswith("." + c)]
        if fitting:
            found[key] = max(fitting, key=len)
    return found


def test_suffix_matching_equals_the_obvious_loop():
    parts = ["a", "b", "ab", "res2", "w"]
    model = [f"{x}.{y}.{z}" for x in parts for y in parts for z in parts]
    ckpt = ["w", "a.w", "ab.w", "b.ab.w", "res2.w", "a.b.res2", "zz", "b"]
    assert match_by_suffix(model, ckpt) == slow_match(model, ckpt)


def test_two_places_for_one_weight_is_an_error():
    with pytest.raises(ValueError, match="matches both"):
        align_and_update_state_dicts(
            {"a.w": torch.zeros(1), "b.w": torch.zeros(1)}, {"w": torch.ones(1)}, False
        )
