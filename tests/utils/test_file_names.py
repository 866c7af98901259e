"""Names of files that are written, and folders that are in use."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from detectron2.utils.file_io.lock import FolderInUseError, folder_lock
from detectron2.utils.file_io.names import distinct_names
from detectron2.utils.logger import close_log_file, setup_logger


def test_names_are_distinct_and_stable() -> None:
    assert distinct_names(["a/x.png", "b/x.jpg", "c/x-2.png", "d/X.png"], ".jpg") == [
        "x.jpg", "x-3.jpg", "x-2.jpg", "X-4.jpg"
    ]  # fmt: skip
    assert distinct_names(["a/x.png", "b/x.jpg", "c/x.png"]) == ["x.png", "x.jpg", "x-2.png"]
    assert distinct_names([]) == []


def test_a_folder_is_held_by_one_process_and_its_children(tmp_path: Path) -> None:
    code = "import sys\nfrom detectron2.utils.file_io.lock import folder_lock\nwith folder_lock(sys.argv[1]): pass\n"
    with folder_lock(tmp_path), folder_lock(tmp_path):  # the command line, and the trainer in it
        subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)
        nested = f"import subprocess, sys\nsys.exit(subprocess.run([sys.executable, '-c', {code!r}, sys.argv[1]]).returncode)"
        stranger = subprocess.run(
            [sys.executable, "-c", nested, str(tmp_path)], capture_output=True, text=True, check=False
        )
        assert (
            stranger.returncode
            and FolderInUseError.__name__ in stranger.stderr
            and str(os.getpid()) in stranger.stderr
        )
    with folder_lock(tmp_path), folder_lock("s3://bucket/run"):
        pass


def test_each_run_has_its_own_log(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("one", "two", "one"):
        setup_logger(str(tmp_path / name), name="d2test.runs", color=False).info("run %s", name)
        setup_logger(name="d2test.runs").info("more of %s", name)
    setup_logger(str(tmp_path / "one"), name="d2test.other").info("a library")
    close_log_file("d2test.runs")
    close_log_file("d2test.other")
    lines = {n: (tmp_path / n / "log.txt").read_text().splitlines() for n in ("one", "two")}
    assert len(lines["one"]) == 5 and len(lines["two"]) == 2
    assert all("two" in line for line in lines["two"])
    assert capsys.readouterr().out.count("more of") == 3
