"""The golden cases of the reference, one test a group (marked `parity`; `make parity` prints a line for each case)."""

import subprocess
import sys
from pathlib import Path

import pytest

PACK = Path(__file__).resolve().parent / "parity"
GOLDENS = {p.stem for p in (PACK / "goldens").glob("*.npz")}
# Cases of the projects by project, such as proj_trident and mod_dino; all others by package.
GROUPS = sorted(
    {"_".join(name.split("_")[: 2 if name.startswith(("proj_", "mod_")) else 1]) for name in GOLDENS}
)


def test_all_goldens_are_here() -> None:
    listed = subprocess.run(
        [sys.executable, str(PACK / "run.py"), "list"], capture_output=True, text=True, check=True
    )
    assert set(listed.stdout.split()) == GOLDENS
    assert len(GOLDENS) >= 184


@pytest.mark.parity
@pytest.mark.parametrize("group", GROUPS)
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
