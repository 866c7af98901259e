"""From a folder of images to a report, in this process; and what bad input gives."""

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from detectron2.cli import main
from detectron2.cli.run.datasets import store
from detectron2.cli.run.recipe import MIN_ITERATIONS, Plan, recipe
from detectron2.data.formats import Source, coco, plan_training
from detectron2.engine.run_folder import DataCard
from detectron2.model_zoo.listing import find_model

from .conftest import write_discs


def read(path: Path) -> dict:
    return json.loads(path.read_text())


def test_train_eval_predict(
    discs_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = Path(shutil.copytree(discs_run, tmp_path / "copy"))
    card = read(out / "run.json")
    assert card["classes"] == ["red", "blue"]
    assert card["category_ids"] == [3, 7]
    summary = read(out / "summary.json")
    assert summary["iterations"] == 4  # 2 epochs of 6 images, 3 at a time
    assert {"box_AP50", "mask_AP50", "seconds"} <= set(summary)
    for name in ("model_final.pth", "model_best.pth", "metrics.json", "config.yaml", "evaluation.json"):
        assert (out / name).is_file(), name
    page = (out / "report.html").read_text()
    assert "data:image/jpeg" in page
    assert "red" in page
    assert card["val"]["labels"] == [6, 3] and (out / "pictures" / "train_batch.jpg").is_file()
    report = read(out / "report.json")
    assert report["training"]["val/total_loss"] and "validation</title>" in page
    assert "http" not in page.replace("http://www.w3.org", "")  # one file that works offline

    monkeypatch.chdir(tmp_path)  # the run knows its data and itself from anywhere
    assert main(["eval", "copy", "--device", "cpu"]) == 0
    again = read(out / "eval" / "summary.json")
    assert again["box_AP50"] == summary["box_AP50"]
    assert (out / "eval" / "report.html").is_file()

    images = Path(shutil.copytree(discs_run.parent / "discs" / "images", tmp_path / "images"))
    (images / "broken.jpg").write_bytes(b"no picture")
    shown = tmp_path / "shown"
    capsys.readouterr()
    assert (
        main(
            ["predict", str(out), str(images), "--output", str(shown), "--threshold", "0", "--device", "cpu"]
        )
        == 0
    )
    assert "1 skipped" in capsys.readouterr().out
    found = read(shown / "predictions.json")
    assert len(found) == 6
    assert all(o["class"] in ("red", "blue") for r in found for o in r["objects"])
    assert all((shown / r["picture"]).is_file() for r in found)

    data = ["--train", str(discs_run.parent / "discs" / "discs.json"), "--weights", "none"]
    assert main(["train", *data, "--output", str(out)]) == 2  # never overwrites a run
    assert "--resume" in capsys.readouterr().err


@pytest.mark.slow
def test_the_labels_of_a_large_file_are_not_all_parsed(
    discs: Path,
    tiny_config: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    many = write_discs(tmp_path / "many", count=9, seed=1)
    monkeypatch.setenv("FVCORE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("detectron2.cli.commands.train.SAMPLED_ABOVE", 8)
    monkeypatch.setattr("detectron2.data.formats.sample._SAMPLE", 3)
    monkeypatch.setattr("detectron2.data.datasets.coco.LAZY_FROM_BYTES", 0)
    monkeypatch.setattr(coco, "_LARGE", 0)
    whole = coco.read_json

    def read_small(path: Path) -> object:
        assert Path(path) != many
        return whole(path)

    monkeypatch.setattr(coco, "read_json", read_small)
    monkeypatch.setattr("detectron2.data.datasets.coco.read_json", read_small)
    data = ["--train", str(many), "--val", str(discs), "--model", str(tiny_config), "--weights", "none"]
    length = ["--epochs", "2", "--batch-size", "3", "--workers", "0", "--device", "cpu"]
    assert main(["train", *data, *length, "--output", str(tmp_path / "run")]) == 0
    assert "of which 3 images" in "".join(capsys.readouterr())
    card = read(tmp_path / "run" / "run.json")
    assert read(tmp_path / "run" / "summary.json")["iterations"] == 6  # 2 epochs of 9 images, 3 at a time
    assert card["train"]["num_images"] == 9 and card["train"]["labels"] == [9, 5]


def test_recipe_scales_with_batch_and_data() -> None:
    config, name = find_model("mask_rcnn_R_50_FPN_3x")
    assert name == "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_3x.yaml"
    small = recipe(config, Plan(num_classes=5, num_images=10, batch_size=2, device="cpu")).cfg
    assert small.INPUT.RESIZE_BACKEND == "torch"
    assert small.SOLVER.MAX_ITER == MIN_ITERATIONS
    assert small.SOLVER.BASE_LR == pytest.approx(0.02 * 2 / 16)
    assert small.MODEL.ROI_HEADS.NUM_CLASSES == 5
    large = recipe(config, Plan(num_classes=5, num_images=118_287, batch_size=16, device="cpu")).cfg
    assert abs(large.SOLVER.MAX_ITER - 270_000) <= 1
    assert abs(large.SOLVER.STEPS[0] - 210_000) <= 1
    assert large.SOLVER.BASE_LR == pytest.approx(0.02)


def test_the_rate_of_adam_follows_the_root_of_the_batch() -> None:
    for name, rate in (("maskformer2_R50_bs16_50ep", 1e-4), ("dino_r50_4scale_12ep", 1e-4)):
        folder = "Mask2Former/configs/coco/instance-segmentation/" if "mask" in name else ""
        config, _ = find_model(f"{folder}{name}.yaml" if folder else name)
        run = recipe(config, Plan(num_classes=5, num_images=10, batch_size=4, device="cpu"))
        assert run.get(run.rate_path) == pytest.approx(rate / 2)


@pytest.mark.parametrize(
    "name", ["COCO-Detection/retinanet_R_50_FPN_1x.py", "new_baselines/mask_rcnn_R_50_FPN_100ep_LSJ.py"]
)
def test_recipe_takes_python_configs(name: str) -> None:
    config, _ = find_model(name)
    cfg = recipe(config, Plan(num_classes=5, num_images=64, epochs=2, batch_size=4, device="cpu")).cfg
    assert cfg.train.max_iter == 32
    assert cfg.dataloader.train.dataset.names == "train"
    assert cfg.dataloader.test.dataset.names == "val"
    assert cfg.dataloader.train.total_batch_size == 4
    cfg.train.output_dir = "runs/x"
    assert cfg.dataloader.evaluator.output_dir == "runs/x/inference"
    heads = cfg.model.get("roi_heads")
    assert (cfg.model if heads is None else heads).num_classes == 5
    assert cfg.train.best_checkpoint.metric == ("bbox/AP" if heads is None else "segm/AP")


def test_other_formats_are_written_for_the_run_and_anew_each_time(discs: Path, tmp_path: Path) -> None:
    assert main(["data", "convert", str(discs), "--to", "yolo", "--output", str(tmp_path / "yolo")]) == 0
    for count in (9, 8):
        plan = plan_training(Source(str(tmp_path / "yolo")))
        cards = [store(plan.parts[role], role, tmp_path / "run") for role in ("train", "val")]
        assert [Path(c.json).name for c in cards] == ["train.json", "val.json"]
        assert (sum(c.num_images for c in cards), sum(c.num_instances for c in cards)) == (6, count)
        first = tmp_path / "yolo" / "labels" / "1.txt"
        first.write_text("".join(first.read_text().splitlines(keepends=True)[1:]))


def _edit(path: Path, change: str) -> None:
    """Plant one defect in a json or its images."""
    content = read(path)
    first = content["annotations"][0]
    if change == "category":
        first["category_id"] = 99
    elif change == "polygon":
        first["segmentation"] = [[1.0, 1.0, 5.0, 5.0]]
    elif change == "box":
        first["bbox"] = [200, 200, 10, 10]
    elif change == "size":
        content["images"][0]["width"] = 81
    elif change == "missing":
        (path.parent / "images" / "1.jpg").unlink()
    elif change == "truncated":
        file = path.parent / "images" / "1.jpg"
        file.write_bytes(file.read_bytes()[:400])
    elif change == "duplicate":
        content["images"].append(dict(content["images"][0]))
    elif change == "nothing":
        content["annotations"] = []
    elif change == "exif":
        file = path.parent / "images" / "1.jpg"
        exif = Image.Exif()
        exif[274] = 6  # rotated by a quarter
        Image.open(file).save(file, exif=exif)
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("category", "99"),
        ("polygon", "polygon"),
        ("box", "200"),
        ("size", "81"),
        ("missing", "1.jpg"),
        ("truncated", "1.jpg"),
        ("duplicate", "used twice"),
        ("nothing", "annotations"),
        ("exif", "1.jpg"),
    ],
)
def test_defects_are_reported_before_the_first_step(
    change: str, said: str, discs: Path, tiny_config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _edit(discs, change)
    from detectron2.data.health import check_coco_json

    report = check_coco_json(str(discs), str(discs.parent / "images"))
    assert said in report.to_text()
    assert report.findings
    if not report.ok:
        words = [
            "train",
            "--train",
            str(discs),
            "--model",
            str(tiny_config),
            "--output",
            str(tmp_path / "run"),
        ]
        assert main([*words, "--weights", "none"]) == 2
        assert said in capsys.readouterr().err
        assert not (tmp_path / "run" / "model_final.pth").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["train", "--train", "nowhere"], "nowhere does not exist"),
        (["train"], "--train DATA is needed"),
        (["train", "--train", "DISCS", "--model", "mask_rcnn_R50"], "mask_rcnn_R_50"),
        (["eval", "nowhere"], "nowhere does not exist; expected the folder of a run"),
        (["predict", "nowhere", "http://127.0.0.1:9/x.jpg"], "no config 'nowhere'"),
        (["config", "show", "mask_rcnn_R_50_FPN_1x", "SOLVER.BASE_LRR", "1"], "BASE_LR"),
        (["data", "check", "nowhere"], "nowhere does not exist"),
    ],
)
def test_bad_input_gives_one_line(
    words: list[str], said: str, discs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(discs) if w == "DISCS" else w for w in words]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert "Traceback" not in err


def test_categories_must_agree(
    discs: Path, tiny_config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = write_discs(tmp_path / "other")
    content = read(other)
    content["categories"][0]["name"] = "crimson"
    other.write_text(json.dumps(content))
    words = [
        "train",
        "--train",
        str(discs),
        "--val",
        str(other),
        "--model",
        str(tiny_config),
        "--weights",
        "none",
    ]
    assert main([*words, "--output", str(tmp_path / "run")]) == 2
    assert "crimson" in capsys.readouterr().err


def test_paths_of_a_run_are_absolute_or_within_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    card = DataCard("run/data/val.json", "photos")
    stored = card.within(Path("run"))
    assert stored == DataCard(str(Path("data/val.json")), str(tmp_path / "photos"))
    monkeypatch.chdir("/")
    seen = stored.seen_from(tmp_path / "run")
    assert seen == DataCard(str(tmp_path / "run" / "data" / "val.json"), str(tmp_path / "photos"))
