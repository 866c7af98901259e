"""From a run to a file that is proved, evaluated and refused, on the command line."""

import json
import pickle
import shutil
from pathlib import Path

import pytest
import torch

from detectron2 import Predictor
from detectron2.cli import main
from detectron2.cli.errors import UserError
from detectron2.cli.run.exported import card_of_file
from detectron2.export import ExportedModel, load_exported


@pytest.fixture(scope="module")
def run(discs_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a few steps, with its data beside it."""
    return Path(shutil.copytree(discs_run.parent, tmp_path_factory.mktemp("export") / "copy")) / "run"


@pytest.fixture(scope="module")
def file(run: Path) -> Path:
    """The run as TorchScript, which is the quickest to make."""
    assert main(["export", str(run), "--to", "torchscript", "--limit", "2"]) == 0
    return run / "model.ts"


def test_a_run_is_exported_and_its_file_evaluated(
    run: Path, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = (run / "model.ts.agreement.md").read_text()
    assert "| 1.jpg | 64 x 80 |" in table and "| blank |" in table and "| no |" not in table
    data = run.parent / "discs" / "discs.json"
    assert main(["eval", str(file), "--data", str(data)]) == 0
    of_file = json.loads((run / "model.ts.eval" / "summary.json").read_text())
    assert (run / "model.ts.eval" / "report.html").is_file()
    of_run = json.loads((run / "summary.json").read_text())
    for name in ("box_AP", "mask_AP50"):
        assert of_file[name] == pytest.approx(of_run[name], abs=0.02)  # Pillow here, torch there
    assert of_file["images"] == 6 and of_file["precision"] == "fp32"
    assert main(["eval", str(file)]) == 2
    assert "--data" in capsys.readouterr().err


def test_a_file_of_semantic_classes_has_no_boxes_to_evaluate() -> None:
    about = {"outputs": {"sem_seg": [54, 64, 64]}, "classes": ["a"], "versions": {}}
    with pytest.raises(UserError, match="gives sem_seg, but no boxes"):
        card_of_file(ExportedModel(lambda image: {}, about), "model.onnx")


def test_a_file_predicts_on_the_command_line(run: Path, file: Path, tmp_path: Path) -> None:
    picture = run.parent / "discs" / "images" / "1.jpg"
    words = ["predict", str(file), str(picture), "--threshold", "0", "--output", str(tmp_path / "out")]
    assert main(words) == 0
    (record,) = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert record["objects"] and (tmp_path / "out" / "1.jpg").is_file()


def test_a_file_is_served(run: Path, file: Path) -> None:
    pytest.importorskip("fastapi")
    from ..serving.conftest import serving

    picture = (run.parent / "discs" / "images" / "1.jpg").read_bytes()
    with serving(Predictor(file, scores=0.0)) as client:
        status, found = client.predict(picture)
    assert status == 200 and (found["width"], found["height"]) == (80, 64)
    assert found["objects"] and found["objects"][0]["class"] in ("red", "blue")


@pytest.mark.slow
def test_half_precision_comes_with_its_ap(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["export", str(run), "--to", "torchscript", "--precision", "fp16", "--limit", "1"]
    assert main(words) == 0
    said = capsys.readouterr().out
    assert (run / "model-fp16.ts").is_file() and "| box_AP |" in said and "| mask_AP50 |" in said


@pytest.mark.slow
def test_a_fixed_sampling_ratio_comes_with_its_ap(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["export", str(run), "--to", "torchscript", "--limit", "1", "--output", str(run / "fixed")]
    assert main([*words, "--sampling-ratio", "2"]) == 0
    assert "| box_AP |" in capsys.readouterr().out
    assert load_exported(run / "fixed.ts").metadata["sampling_ratio"] == 2
    assert main([*words, "--sampling-ratio", "0"]) == 2
    assert "1 or more, got 0" in capsys.readouterr().err


def test_what_cannot_be_exported_is_refused(
    run: Path, file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = ["--weights", str(run / "model_final.pth")]
    for words, said in (
        ([str(run), "--to", "onx"], "onnx"),
        ([str(run), "--to", "pt2", "--precision", "int8"], "onnx, openvino"),
        ([str(run), "no-pictures"], "no-pictures"),
        ([str(run / "none"), "--to", "pt2"], "none"),
        ([str(file), "--to", "pt2"], "is an exported file"),
        ([str(run / "config.yaml"), *weights, "--to", "torchscript"], "name some"),
        (
            [str(run), "--to", "torchscript", "--limit", "1", "--static", "96", "128", "--batch", "2"],
            "one image",
        ),
    ):
        assert main(["export", *words]) == 2
        err = capsys.readouterr().err
        assert said in err and "Traceback" not in err
    assert not list(tmp_path.glob("*.ts"))


def test_the_predictor_takes_a_file(run: Path, file: Path) -> None:
    pictures = [str(run.parent / "discs" / "images" / f"{i}.jpg") for i in (1, 2)]
    of_run, of_file = Predictor(str(run), scores=None, device="cpu"), Predictor(file, scores=None)
    assert of_file.metadata.thing_classes == ["red", "blue"]
    again = pickle.loads(pickle.dumps(of_file))
    for wanted, found, third in zip(of_run(pictures), of_file(pictures), again(pictures)):
        assert len(wanted["instances"]) > 0
        for other in (found["instances"], third["instances"]):
            torch.testing.assert_close(
                other.pred_boxes.tensor, wanted["instances"].pred_boxes.tensor, rtol=1e-4, atol=1e-3
            )
    with pytest.raises(ValueError, match="fixed in it"):
        Predictor(file, precision="float16")
