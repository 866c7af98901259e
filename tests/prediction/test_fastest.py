"""The fastest way to run a model: what wins, what is refused, and what the next start finds."""

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from detectron2 import Predictor
from detectron2.cli import main
from detectron2.config import CfgNode
from detectron2.prediction import exported, fastest
from detectron2.prediction.backends import TorchBackend
from detectron2.prediction.fastest import EAGER, Way, fastest_backend

from .conftest import picture

PICTURES = [picture(0), picture(1, height=64, width=48)]
ONE = PICTURES[:1]


class Clock:
    """Seconds that pass only when a model runs."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def slowed(self, backend: Any, seconds: float, change: Any = None) -> Any:
        """Let each run of a backend take a time, and perhaps change its result."""
        run = backend.run

        def slow(batch: Any, scores: float | None = None) -> Any:
            self.now += seconds
            outputs = run(batch, scores)
            return [change(output) for output in outputs] if change else outputs

        backend.run = slow
        return backend


@pytest.fixture
def backend(tiny_cfg: CfgNode) -> TorchBackend:
    made = Predictor(tiny_cfg, device="cpu").backend
    assert isinstance(made, TorchBackend)
    return made


def moved(output: Any) -> Any:
    """Move every box by two pixels."""
    found = output["instances"]
    found.pred_boxes.tensor += 2
    return {"instances": found}


def test_the_fastest_that_agrees_is_taken(
    backend: TorchBackend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, said = Clock(), list[str]()
    plain = clock.slowed(backend, 1.0)

    def make(trial: Any, name: str, *_: Any) -> Any:
        if name == "broken":
            raise RuntimeError("no such instruction\nin line 3")
        same = backend.changed(lambda model: model)
        same.run = type(backend).run.__get__(same)
        return clock.slowed(same, {"slow": 2.0, "good": 0.5, "fair": 0.8, "wrong": 0.1}[name],
                            moved if name == "wrong" else None)  # fmt: skip

    monkeypatch.setattr(fastest, "_make", make)
    names = ("slow", "good", "broken", "wrong", "fair")
    best, ways = fastest_backend(
        plain, ONE, folder=tmp_path, rounds=1, ways=names, clock=clock, say=said.append
    )
    by_name = {way.name: way for way in ways}
    assert list(by_name) == [EAGER, *names]
    assert best.run([best.prepare(PICTURES[0])])[0]["instances"].scores.shape == (10,)
    assert by_name[EAGER].seconds == 1.0 and by_name["good"].ratio == 2.0 and by_name["slow"].ratio == 0.5
    assert by_name["broken"].problem == "no such instruction in line 3" and not by_name["broken"].seconds
    assert "differs in picture 1: it lacks " in by_name["wrong"].problem
    assert f"Taken: good; kept in {tmp_path} for the next start" in said
    assert "broken          no: no such instruction in line 3" in said
    assert json.loads((tmp_path / "fastest.json").read_text())["taken"] == "good"

    said.clear()  # the next start measures nothing
    _, again = fastest_backend(plain, ONE, folder=tmp_path, clock=clock, say=said.append)
    assert again == ways and said[0].startswith(
        "Taken: good, 2.00 times as fast as eager when it was measured"
    )

    with torch.no_grad():  # other weights are another model
        backend.model.proposal_generator.rpn_head.conv.weight[0, 0, 0, 0] += 1
    fastest_backend(plain, ONE, folder=tmp_path, rounds=1, ways=["fair"], clock=clock, say=said.append)
    assert "since the weights" in said[1] and said[-1].startswith("Taken: fair")

    monkeypatch.setattr(fastest, "_make", lambda *_: clock.slowed(backend.changed(lambda m: m), 0.1, moved))
    fastest_backend(plain, ONE, folder=tmp_path, rounds=1, ways=["fair"], clock=clock, say=said.append)
    assert said[-1].startswith("Taken: eager") and any(
        "Measured again, since fair differs" in s for s in said
    )


def test_a_predictor_is_sped_up_and_refuses_what_is_not_plain(
    tiny_cfg: CfgNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fastest, "WAYS", ("channels-last",))
    monkeypatch.setattr(fastest, "_WORTH", 0.0)  # take it though it may be slower for so small a model
    monkeypatch.setenv("FVCORE_CACHE", str(tmp_path))
    predictor = Predictor(tiny_cfg, device="cpu", scores=None)
    before = predictor(PICTURES[0])["instances"]
    names = [way.name for way in predictor.speed_up(PICTURES)]
    assert names == [EAGER, "channels-last"]
    weight = predictor.backend.model.backbone.fpn_lateral2.weight  # type: ignore[attr-defined]
    assert weight.is_contiguous(memory_format=torch.channels_last)
    (kept,) = tmp_path.glob("fast/*/fastest.json")  # a config has no folder of its own
    for sped_up in (predictor, pickle.loads(pickle.dumps(predictor))):
        after = sped_up(PICTURES[0])["instances"]
        torch.testing.assert_close(after.pred_boxes.tensor, before.pred_boxes.tensor, atol=1e-3, rtol=1e-4)
        assert torch.equal(after.pred_masks, before.pred_masks)
    assert json.loads(kept.read_text())["taken"] == "channels-last"
    with pytest.raises(ValueError, match="leave out precision"):
        Predictor(tiny_cfg, device="cpu", precision="bfloat16").speed_up(PICTURES)
    with pytest.raises(ValueError, match="at least one"):
        Predictor(tiny_cfg, device="cpu").speed_up([])


def test_files_of_8_bits_are_shown_with_their_ap_and_not_taken(
    backend: TorchBackend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "model-int8.onnx").write_bytes(b"")
    table = (
        "| picture | agrees |\n| --- | --- |\n| a | yes |\n\n| figure | model | file |\n| --- | --- | --- |\n"
    )
    table += "| box_AP | 0.4012 | 0.3950 |\n| box_AP50 | 0.6 | 0.5 |\n\nMedian time\n"
    (tmp_path / "model-int8.onnx.agreement.md").write_text(table)
    clock, said = Clock(), list[str]()
    monkeypatch.setattr(
        fastest, "ExportedBackend", lambda file: clock.slowed(backend.changed(lambda m: m), 0.1)
    )
    backend.name = str(tmp_path)
    monkeypatch.setattr(fastest, "WAYS", ())
    _, ways = fastest_backend(backend, ONE, folder=tmp_path / "fast", clock=clock, say=said.append)
    assert ways[1].name == "model-int8.onnx" and "box_AP 0.4012 -> 0.3950" in said[-2]
    assert "not taken: 8 bits are not exact" in said[-2] and said[-1].startswith("Taken: eager")


def test_a_file_leaves_what_is_too_large_to_its_model(backend: TorchBackend, monkeypatch: Any) -> None:
    class Loaded:
        """A file that takes up to 100 pixels and finds nothing."""

        metadata = {"sides": [33, 100], "input_format": "BGR", "classes": []}

        def predict(self, items: list[Any]) -> list[Any]:
            return [{} for _ in items]

    monkeypatch.setattr(exported, "load_exported", lambda path: Loaded())
    made = fastest._FileOfModel("model.onnx", backend)
    for copied in (made, pickle.loads(pickle.dumps(made))):
        assert copied.run([copied.prepare(PICTURES[0])]) == [{}]  # 64 x 85
        (large,) = copied.run([copied.prepare(picture(0, height=48, width=96))])  # 64 x 128
        assert len(large["instances"]) == 10
        assert copied.metadata.thing_classes == ["disc", "square"] and copied.cfg == backend.cfg


def test_a_way_says_what_was_measured() -> None:
    assert str(Way("OpenVINO", 0.25, 1.5, 12)) == (
        "OpenVINO           250 ms a picture, 1.50 times as fast as eager, made in 12 s"
    )


@pytest.mark.slow
def test_every_way_on_a_real_model(tiny_file: Path, photos: Path, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("FVCORE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(fastest, "_WORTH", 0.0)
    words = ["predict", str(tiny_file), str(photos), "--fast", "--threshold", "0", "--device", "cpu"]
    assert main([*words, "--output", str(tmp_path / "first")]) == 0
    (kept,) = (tmp_path / "cache").glob("fast/*/fastest.json")
    found = json.loads(kept.read_text())
    problems = {way["name"]: way["problem"] for way in found["ways"]}
    assert list(problems) == [EAGER, *fastest.WAYS] and not any(problems.values()), problems
    # The file is loaded at the next start.
    path = tmp_path / "kept.json"
    found["taken"] = "torch.export"
    path.write_text(json.dumps(found))
    assert main([*words, "--output", str(tmp_path / "second")]) == 0
    first, second = (json.loads((tmp_path / n / "predictions.json").read_text()) for n in ("first", "second"))
    assert [len(r["objects"]) for r in first] == [len(r["objects"]) for r in second]


def test_the_command_takes_it(tiny_file: Path, photos: Path, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(fastest, "WAYS", ("channels-last",))
    monkeypatch.setenv("FVCORE_CACHE", str(tmp_path / "cache"))
    (photos / "0.jpg").write_bytes(b"broken")
    words = ["predict", str(tiny_file), str(photos), "--fast", "--device", "cpu", "--threshold", "0"]
    assert main([*words, "--output", str(tmp_path / "out")]) == 0
    assert list((tmp_path / "cache").glob("fast/*/fastest.json"))
    assert len(json.loads((tmp_path / "out" / "predictions.json").read_text())) == 4
