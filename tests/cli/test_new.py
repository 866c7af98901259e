"""``detectron2 new``: what it writes, what it refuses, and that the project works."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from detectron2.cli import main
from detectron2.cli.commands.new import TEMPLATES, write_project
from detectron2.config import get_cfg

FEW = {"train": 6, "val": 2}
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project called toyshop."""
    folder = tmp_path_factory.mktemp("work") / "toyshop"
    write_project(folder, FEW)
    return folder


def test_files_are_written_with_their_names(project: Path) -> None:
    written = {p.relative_to(project).as_posix() for p in project.rglob("*") if p.is_file()}
    assert {p for p in written if not p.startswith("data/")} == {
        ".gitignore",
        "README.md",
        "configs/toyshop.py",
        "configs/toyshop.yaml",
        "pyproject.toml",
        "tests/test_toyshop.py",
        "toyshop/__init__.py",
        "toyshop/augmentation.py",
        "toyshop/data.py",
        "toyshop/head.py",
        "train.py",
    }
    for part, count in FEW.items():
        assert len([p for p in written if p.startswith(f"data/{part}/")]) == count
        assert f"data/{part}.csv" in written
    assert len(list(TEMPLATES.rglob("*.template"))) == 11


def test_the_command_says_what_to_do_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("detectron2.cli.commands.new._draw", lambda *args: None)
    assert main(["new", "work/shop"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "11 files and 50 pictures written to work/shop. Next:"
    assert said[-1].strip() == "python train.py --config-file configs/shop.yaml"


def test_no_placeholder_is_left_and_each_program_compiles(project: Path) -> None:
    for path in project.rglob("*"):
        if path.suffix in (".py", ".md", ".toml", ".yaml"):
            text = path.read_text(encoding="utf-8")
            assert "{{" not in text and "__project__" not in text, path.name
            if path.suffix == ".py":
                compile(text, path, "exec")
    assert "toyshop_train" in (project / "configs/toyshop.py").read_text(encoding="utf-8")


def test_keys_of_the_yaml_config_exist(project: Path) -> None:
    file = project / "configs/toyshop.yaml"
    cfg = get_cfg()
    cfg.merge_from_file(str(file))
    assert cfg.MODEL.ROI_BOX_HEAD.NAME == "ResidualBoxHead"
    assert yaml.safe_load(file.read_text(encoding="utf-8"))["DATASETS"]["TRAIN"] == ["toyshop_train"]


def test_labels_are_boxes_of_every_class(project: Path) -> None:
    header, *rows = (project / "data/train.csv").read_text(encoding="utf-8").splitlines()
    assert header == "file,class,x0,y0,x1,y1"
    assert {row.split(",")[1] for row in rows} == {"ball", "brick", "star", "ring"}


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("My-Shop", "'my_shop' would do"),
        ("1shop", "'shop' would do"),
        ("class", "word of the language"),
        ("shop-1.0", "'shop_1_0' would do"),
        ("torch", "hide it"),
        ("json", "hide it"),
        ("train", "hide it"),
    ],
)
def test_bad_names_are_refused_and_nothing_is_written(
    name: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["new", name]) == 2
    assert said in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_an_existing_folder_is_refused_and_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "shop"
    folder.mkdir()
    (folder / "mine.txt").write_text("kept")
    assert main(["new", str(folder)]) == 2
    assert "exists" in capsys.readouterr().err
    assert [p.name for p in folder.iterdir()] == ["mine.txt"]


def test_a_failure_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr("detectron2.cli.commands.new._draw", full)
    with pytest.raises(OSError):
        write_project(tmp_path / "shop")
    assert not (tmp_path / "shop").exists()


@pytest.mark.slow
def test_the_project_passes_its_own_tests_and_trains(project: Path) -> None:
    paths = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": paths}

    def run(*words: str) -> str:
        done = subprocess.run(
            [sys.executable, *words], cwd=project, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    assert "7 passed" in run("-m", "pytest", "-q", "-p", "no:cacheprovider")
    steps = ["SOLVER.MAX_ITER", "3", "SOLVER.STEPS", "()", "TEST.EVAL_PERIOD", "0"]
    run("train.py", "--config-file", "configs/toyshop.yaml", *steps)
    assert (project / "output/model_final.pth").is_file()
    evaluated = run("train.py", "--config-file", "configs/toyshop.yaml", "--eval-only")
    assert "bbox" in evaluated
