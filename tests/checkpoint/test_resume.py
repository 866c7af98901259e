"""Going on after a kill: what may lie in the folder of a training, and what is taken."""

import logging
import os
import zipfile
from pathlib import Path

import pytest
import torch
from torch import nn

from detectron2.checkpoint import BrokenCheckpointError, DetectionCheckpointer
from detectron2.checkpoint.candidates import is_plain_name, resume_order

LAST = "model_0000003.pth"


def net(value: float = 0.5) -> nn.Linear:
    made = nn.Linear(2, 2)
    nn.init.constant_(made.weight, value)
    return made


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three checkpoints, of the iterations 1 to 3; the weights are the iteration."""
    for i in (1, 2, 3):
        optimizer = torch.optim.SGD(net().parameters(), lr=i)
        DetectionCheckpointer(net(i), str(tmp_path), optimizer=optimizer).save(f"model_{i:07d}", iteration=i)
    return tmp_path


def resumed(folder: Path) -> tuple[int | None, float]:
    model = net()
    saver = DetectionCheckpointer(model, str(folder), optimizer=torch.optim.SGD(model.parameters(), lr=1))
    return saver.resume_or_load("", resume=True).get("iteration"), model.weight[0, 0].item()


def foreign(folder: Path) -> None:
    torch.save({"model": net(9).state_dict()}, folder / "backbone.pth")
    torch.save({"model": net(9).state_dict(), "iteration": 99}, folder / "pretrained.pth")


def other_date(folder: Path) -> None:
    os.utime(folder / "model_0000001.pth", (4e9, 4e9))


def later_iteration(folder: Path) -> None:
    torch.save({"model": net(9).state_dict(), "iteration": 9}, folder / "model_0000009.pth")


@pytest.mark.parametrize("beside", [foreign, other_date, later_iteration])
def test_only_own_checkpoints_count_and_by_iteration(folder: Path, beside) -> None:
    (folder / LAST).write_bytes(b"")
    beside(folder)
    assert resumed(folder) == (2, 2.0)


def test_without_last_checkpoint_the_newest_own_file_is_taken(folder: Path, caplog) -> None:
    foreign(folder)
    (folder / "last_checkpoint").unlink()
    with caplog.at_level(logging.WARNING):
        assert resumed(folder) == (3, 3.0)
    assert LAST in caplog.text
    torch.save({"model": net(4).state_dict(), "iteration": 4}, folder / "model_final.pth")
    torch.save(
        {"model": net(5).state_dict(), "iteration": 4, "weights_only": True}, folder / "model_best.pth"
    )
    assert resumed(folder) == (4, 4.0)


@pytest.mark.parametrize(
    "tag",
    [
        b"\xff\xfe\x9c\x00",
        b"https://example.com/x.pth",
        b"../other/model.pth",
        b"/etc/passwd",
        b"",
        b"a" * 9999,
    ],
)
def test_a_last_checkpoint_that_names_no_file_is_passed_over(folder: Path, tag: bytes) -> None:
    (folder / "last_checkpoint").write_bytes(tag)
    assert resumed(folder) == (3, 3.0)


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:300])


def evil(path: Path) -> None:
    path.write_bytes(b"\x80\x04cos\nmkdir\nX\x06\x00\x00\x00marker\x85R.")


def zip_of_text(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.txt", "x")


def content(value: object):
    def write(path: Path) -> None:
        torch.save(value, path)

    return write


@pytest.mark.parametrize(
    "damage",
    [
        truncated,
        evil,
        zip_of_text,
        Path.unlink,
        content(torch.zeros(3)),
        content([1, 2]),
        content({"iteration": 3}),
        content({"model": 5, "iteration": 3}),
        content({"model": {7: torch.zeros(2)}, "iteration": 3}),
        content({"model": {"other.weight": torch.zeros(3)}, "iteration": 3}),
        content({"model": {"weight": torch.zeros(5)}, "iteration": 3}),
        content({"model": net().state_dict(), "optimizer": {"state": {}}, "iteration": 3}),
        content({"model": net().state_dict(), "optimizer": 3, "iteration": 3}),
    ],
)
def test_what_cannot_be_resumed_from_is_passed_over_aloud(folder: Path, damage, caplog) -> None:
    damage(folder / LAST)
    with caplog.at_level(logging.WARNING):
        assert resumed(folder) == (2, 2.0)
    assert LAST in caplog.text and "model_0000002.pth" in caplog.text
    assert not Path("marker").exists()
    for i in (1, 2):
        (folder / f"model_{i:07d}.pth").write_bytes(b"PK\x03\x04")
    with pytest.raises(BrokenCheckpointError, match="none is complete"):
        resumed(folder)


def test_an_empty_folder_is_a_fresh_start(tmp_path: Path) -> None:
    assert resumed(tmp_path) == (None, 0.5)
    foreign(tmp_path)
    assert resumed(tmp_path) == (None, 0.5)


def test_order_of_names() -> None:
    names = ["step-4.pth", "step-10.pth", "step-9.pth", "best.pth", "step-x.pth", "other.pth"]
    read = {"step-4.pth": 4, "step-9.pth": 9, "best.pth": 7}.get
    assert resume_order(names, "step-10.pth", read) == ["step-10.pth", "step-9.pth", "best.pth", "step-4.pth"]
    names = ["model_0000005.pth", "model_final.pth", "model_0000009.pth", "net_0000007.shards"]
    assert resume_order(names, "", lambda name: 9) == [
        "model_final.pth",
        "model_0000009.pth",
        "net_0000007.shards",
        "model_0000005.pth",
    ]
    assert is_plain_name("model_final.pth") and not is_plain_name("a/b") and not is_plain_name("..")
