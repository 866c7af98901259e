"""What a refused start leaves, how errors are shown, and which pictures are skipped."""

import errno
import json
import os
import shutil
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import pytest
import torch
from PIL import Image

from detectron2.cli import main
from detectron2.cli.errors import environment_problem, problem_of, text_of
from detectron2.utils.errors import UnknownNameError

needs_no_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="refuses a device that is not there")


def words(discs: Path, config: Path, out: Path, *more: str) -> list[str]:
    data = ["--train", str(discs), "--val", str(discs), "--model", str(config), "--weights", "none"]
    return ["train", *data, "--workers", "0", "--device", "cpu", "--output", str(out), *more]


@needs_no_gpu
def test_a_refused_start_leaves_nothing(
    discs: Path, tiny_config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "runs" / "one"
    start = words(discs, tiny_config, out)
    for change, said in (
        (["--device", "cuda"], "no CUDA device"),
        (["--device", "cuuda"], "cuuda"),
        (["--train", str(discs.parent / "disc.json")], "discs.json"),
        (["--model", "mask_rcnn_R50"], "mask_rcnn_R_50"),
        (["--model", str(tiny_config) + "x.yaml"], "config file"),
        (["SOLVER.BASE_LRR", "1"], "BASE_LR"),
        (["MODEL.DEVICE=cuda"], "no CUDA device"),
        (["train.max_iter=3"], "SOLVER.MAX_ITER"),
        (["SOLVER.MAX_ITER"], "has no value"),
    ):
        assert main([*start, *change]) == 2
        err = capsys.readouterr().err
        assert said in err and "Traceback" not in err
        assert not out.parent.exists(), change


def hold(folder: Path) -> subprocess.Popen[str]:
    """A process that trains in a folder, as far as anybody can see."""
    code = (
        "import sys\nfrom detectron2.utils.file_io.lock import folder_lock\n"
        "with folder_lock(sys.argv[1]):\n    print('held', flush=True)\n    sys.stdin.read()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_the_life_of_a_folder(
    discs_run: Path, tiny_config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    discs = discs_run.parent / "discs" / "discs.json"
    start = words(discs, tiny_config, out, "SOLVER.MAX_ITER=2", "TEST.EVAL_PERIOD=0")
    # After the folder was written, before the first step.
    assert main([*start, "MODEL.FPN.IN_FEATURES=[1]"]) == 2
    assert "Traceback" not in capsys.readouterr().err
    shutil.copytree(discs_run, out, dirs_exist_ok=True)  # of 4 steps
    assert main(start) == 2
    assert "--overwrite" in capsys.readouterr().err
    with hold(out) as other:
        assert main([*start, "--resume"]) == 2
        assert "in use" in capsys.readouterr().err
        other.communicate()
    (out / "notes.txt").write_text("mine")
    (out / "config.yaml").unlink()
    assert main([*start, "--resume", "SOLVER.MAX_ITER=5"]) == 0
    assert "iter: 4 " in capsys.readouterr().out
    assert torch.load(out / "model_final.pth", weights_only=True)["iteration"] == 4
    # More of a run that is there.
    assert main(["train", "--resume", "--output", str(out), "SOLVER.MAX_ITER=6"]) == 0
    last = capsys.readouterr().out.strip().splitlines()[-1]
    assert "box_AP" in last and "report.html" in last
    assert torch.load(out / "model_final.pth", weights_only=True)["iteration"] == 5
    assert main([*start, "--overwrite"]) == 0
    assert torch.load(out / "model_final.pth", weights_only=True)["iteration"] == 1
    assert (out / "notes.txt").read_text() == "mine"
    _predict_odd_pictures(out, tmp_path, capsys)
    _weights_of_other_models(out, start, capsys)


def bomb(path: Path, width: int = 20000, height: int = 20000) -> None:
    """A PNG of a few hundred bytes that promises 400 million pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0))
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(b"\0" * 999)) + chunk(b"IEND", b"")
    )


def _predict_odd_pictures(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One `predict` over everything that a folder of pictures may hold."""
    folder = tmp_path / "pictures"
    for name in ("a/one.png", "b/one.png", "c/one-2.png", "d/ONE.bmp", "e/thin.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (2000, 1) if "thin" in name else (80, 64)).save(folder / name)
    bomb(folder / "bomb.png")
    os.mkfifo(folder / "pipe.png")
    (folder / "page.jpg").write_text("<html>404</html>")
    whole = (folder / "a/one.png").read_bytes()
    (folder / "cut.png").write_bytes(whole[:-40])
    (folder / "notes.heic").write_bytes(b"x")
    film = tmp_path / "film.mp4"
    film.write_bytes(b"\0\0\0\x18ftypisom")
    out = tmp_path / "found"
    capsys.readouterr()
    assert main(["predict", str(run), str(folder), str(film), "--output", str(out), "--device", "cpu"]) == 0
    said = capsys.readouterr().out
    for name in ("bomb.png", "pipe.png", "page.jpg", "cut.png", "film.mp4 is a video", ".heic"):
        assert name in said
    assert "in 5 images, 5 skipped" in said.strip().splitlines()[-1]
    drawn = [record["picture"] for record in json.loads((out / "predictions.json").read_text())]
    assert len({name.lower() for name in drawn}) == 5
    assert {p.name for p in out.iterdir()} == {*drawn, "predictions.json"}
    assert main(["predict", str(run), str(folder / "thin.png")]) == 2
    assert "thin.png does not exist" in capsys.readouterr().err
    assert main(["predict", str(tmp_path / "rum"), str(folder)]) == 2
    err = capsys.readouterr().err
    assert "folder" in err and f"did you mean {run}" in err
    torch.save({"model": {7: torch.zeros(2)}}, tmp_path / "odd.pth")
    assert (
        main(["predict", str(run), str(folder), "--weights", str(tmp_path / "odd.pth"), "--device", "cpu"])
        == 2
    )
    assert "odd.pth" in capsys.readouterr().err


def _weights_of_other_models(run: Path, start: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is predicted or judged by a part of a model that has kept its random weights."""
    other = run.parent / "other.pth"
    weights = torch.load(run / "model_final.pth", weights_only=True)["model"]
    without = {k: v for k, v in weights.items() if "mask_head" not in k}
    reshaped = {k: v[:1] if "box_predictor" in k else v for k, v in weights.items()}
    device = ["--weights", str(other), "--device", "cpu"]
    nothing = {"x": torch.zeros(1)}
    for kept, part in (
        (nothing, "backbone"),
        (without, "roi_heads.mask_head"),
        (reshaped, "roi_heads.box_predictor"),
    ):
        torch.save({"model": kept}, other)
        for command in (["predict", str(run)], ["eval", str(run)]):
            assert main([*command, *device, "--output", str(run.parent / "no")]) == 2
            err = capsys.readouterr().err
            assert part in err and "other.pth" in err and "Traceback" not in err
    torch.save({"model": nothing}, other)
    assert main([*start, "--overwrite", "--weights", str(other)]) == 2
    assert "other.pth holds no weight" in capsys.readouterr().err


def test_bugs_keep_their_traceback_and_bad_input_does_not(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from detectron2.cli.commands import zoo

    def raising(error: Exception) -> None:
        def run(args: object) -> int:
            raise error

        monkeypatch.setattr(zoo, "run", run)

    for bug in (TypeError("x"), KeyError("x"), AttributeError("x"), IndexError("x"), RuntimeError("x")):
        raising(bug)
        with pytest.raises(type(bug)):
            main(["zoo"])
    for bad, said in (
        (UnknownNameError("there is no x"), "detectron2 zoo: there is no x"),
        (OSError(errno.ENOSPC, "No space left on device"), "disk full"),
        (RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. "), "--workers"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried"), "out of memory"),
    ):
        raising(bad)
        assert main(["zoo"]) == 2
        assert said in capsys.readouterr().err


def test_errors_of_loader_workers_lose_their_traceback() -> None:
    text = 'Caught ValueError in DataLoader worker process 0.\nOriginal Traceback (most recent call last):\n  File "x"\nValueError: a.png: bad\nand more\n'
    assert text_of(ValueError(text)) == "a.png: bad\nand more"
    assert (
        text_of(ValueError(text.replace("\nValueError", "\ndetectron2.utils.errors.BadValue")))
        == "a.png: bad\nand more"
    )
    assert environment_problem(RuntimeError("shapes do not fit")) is None


def test_errors_of_other_processes_lose_their_traceback() -> None:
    head = '\n\n-- Process 1 terminated with the following error:\nTraceback (most recent call last):\n  File "x"\n'

    class ProcessRaisedException(Exception):
        """Named as torch's."""

    class RayError(Exception):
        __module__ = "ray.exceptions"

    for end, said in (
        ("ValueError: a.png: bad\nand more\n", "a.png: bad\nand more"),
        ("detectron2.utils.errors.BadValue: no y\n", "no y"),
        ("detectron2.utils.errors.UnknownNameError: no z\n", "no z"),
        ("RuntimeError: CUDA out of memory. Tried\n", "CUDA out of memory. Tried"),
        ("RuntimeError: shapes do not fit\n", None),
        ("TypeError: x\n", None),
    ):
        assert problem_of(ProcessRaisedException(head + end)) == said
        assert problem_of(RayError(head + end)) == said
        wrapped = (
            "\nThe above exception was the direct cause of the following exception:\n\n\x1b[36mray::Map()\x1b[39m (pid=1)\n"
            "ray.exceptions.UserCodeException: UDF failed"
        )
        assert problem_of(RayError(head + end + wrapped)) == said


@pytest.mark.parametrize("words", [["zoo", "--all"], ["zoo", "--all", "--json"]], ids=["table", "text"])
def test_a_reader_that_stops_is_no_error(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as pipe:  # closing it flushes again, as the end of a process does
        monkeypatch.setattr("sys.stdout", pipe)
        assert main(words) == 141
    assert not capsys.readouterr().err
