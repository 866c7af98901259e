"""The golden cases of the reference, one test a group (marked `parity`; `make parity` prints a line for each case)."""

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

PACK = Path(__file__).resolve().parent / "parity"
GROUPS = Counter(p.stem.split("_")[0] for p in (PACK / "goldens").glob("*.npz"))


def test_all_goldens_are_here() -> None:
    assert sum(GROUPS.values()) == 172


@pytest.mark.parity
@pytest.mark.parametrize("group", sorted(GROUPS))
def test_agrees(group: str) -> None:
    only = group  # searched anywhere in a name: a group may run a few cases of another again
    command = [
        sys.executable,
        str(PACK / "run.py"),
        "check",
        str(PACK / "goldens"),
        "--only",
        only,
        "--jobs",
        "2",
    ]
    done = subprocess.run(command, capture_output=True, text=True, cwd=PACK.parent.parent, check=False)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert "cases agree" in done.stdout
