"""The Dockerfile, without Docker: what it copies, installs and calls is there."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from detectron2.cli.arguments import build_parser

ROOT = Path(__file__).resolve().parents[2]


def instructions() -> list[tuple[str, str]]:
    """Instructions and their arguments."""
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [(line.partition(" ")[0], line.partition(" ")[2]) for line in lines]


def all_of(name: str) -> list[str]:
    return [rest for kind, rest in instructions() if kind == name]


def copied() -> list[str]:
    return [source for rest in all_of("COPY") for source in shlex.split(rest)[:-1]]


def test_what_is_copied_exists_and_docker_may_see_it() -> None:
    assert instructions()[0][0] == "FROM" and copied()
    seen = (ROOT / ".dockerignore").read_text().splitlines()
    for source in copied():
        assert (ROOT / source).exists() and f"!{source}" in seen


def test_it_starts_a_command_that_listens_where_it_says() -> None:
    (entry,), (words,) = all_of("ENTRYPOINT"), all_of("CMD")
    name, *arguments = json.loads(entry) + json.loads(words)
    assert f'\n{name} = "detectron2.cli:main"\n' in (ROOT / "pyproject.toml").read_text()
    args = build_parser().parse_args(arguments)
    assert args.command == "serve" and args.host == "0.0.0.0"
    assert all_of("EXPOSE") == [str(args.port)]


def test_its_health_check_asks_a_page_of_the_service() -> None:
    pytest.importorskip("fastapi")
    (check,) = all_of("HEALTHCHECK")
    run, *words = shlex.split(check)
    assert run == "CMD" and words[:2] == ["python", "-c"]
    compile(words[2], "HEALTHCHECK", "exec")
    (url,) = re.findall(r"'(http.*?)'", words[2])
    source = (ROOT / "detectron2" / "serving" / "app.py").read_text()
    assert [str(urlsplit(url).port)] == all_of("EXPOSE") and f'"{urlsplit(url).path}"' in source


@pytest.mark.network  # pip fetches the build backend
def test_what_is_copied_makes_a_wheel_with_the_extra(tmp_path: Path) -> None:
    for source in copied():
        copy = shutil.copytree if (ROOT / source).is_dir() else shutil.copy
        copy(ROOT / source, tmp_path / source)
    (extras,) = re.findall(r"'\.\[(.*?)\]'", " ".join(all_of("RUN")))
    words = ["-m", "pip", "wheel", ".", "--no-deps", "--wheel-dir", "made", "-q"]
    subprocess.run([sys.executable, *words], cwd=tmp_path, check=True, timeout=300)
    (wheel,) = (tmp_path / "made").glob("detectron2-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (about,) = [archive.read(n).decode() for n in names if n.endswith("METADATA")]
    assert any(n.startswith("detectron2/serving/pages/") for n in names)
    for extra in extras.split(","):
        assert f"Provides-Extra: {extra}" in about
