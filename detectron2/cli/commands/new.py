"""``detectron2 new``: a small project with data, a head, an augmentation, configs and tests of its own."""

import argparse
import csv
import keyword
import re
import shutil
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image

from detectron2.data.toys import TOYS, draw_scene
from detectron2.structures.rle import mask_box

from ..errors import UserError

__all__ = ["check_name", "run", "write_project"]

TEMPLATES = Path(__file__).parents[1] / "project"
SUFFIX = ".template"
PICTURES = {"train": 40, "val": 10}


def run(args: argparse.Namespace) -> int:
    """Write the project, and say what to do with it."""
    folder = Path(args.project)
    files = write_project(folder)
    print(f"{len(files)} files and {sum(PICTURES.values())} pictures written to {folder}. Next:")
    print(f"    cd {folder}")
    print("    python -m pytest")
    print(f"    python train.py --config-file configs/{folder.name}.yaml")
    return 0


def write_project(folder: Path, pictures: Mapping[str, int] = PICTURES) -> list[Path]:
    """Write a project; its package has the name of the folder.

    Args:
        folder: where to write; must not exist.
        pictures: number of pictures of each part.

    Returns:
        The files, without those in ``data/``.

    Raises:
        UserError: if the folder exists, or its name cannot be the name of a package.
    """
    if folder.exists():
        raise UserError(f"{folder} exists; name a new folder")
    check_name(folder.name)
    written = []
    try:
        for template in sorted(TEMPLATES.rglob(f"*{SUFFIX}")):
            path = folder / _target(template.relative_to(TEMPLATES), folder.name)
            path.parent.mkdir(parents=True, exist_ok=True)
            text = template.read_text(encoding="utf-8").replace("{{project}}", folder.name)
            path.write_text(text, encoding="utf-8")
            written.append(path)
        for index, (part, count) in enumerate(pictures.items()):
            _draw(folder / "data", part, count, np.random.default_rng([0, index]))
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return written


def check_name(name: str) -> None:
    """Refuse names that no package can have, and those that would hide another package.

    Raises:
        UserError: says which name would do.
    """
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or keyword.iskeyword(name):
        near = re.sub(r"[^a-z0-9_]+", "_", name.lower()).lstrip("_0123456789").rstrip("_")
        hint = f"; {near!r} would do" if near and near != name and not keyword.iskeyword(near) else ""
        raise UserError(
            f"{name!r} cannot be the name of a project: it names a Python package, so it takes lower-case letters, "
            f"digits and underscores, begins with a letter, and is no word of the language{hint}"
        )
    if (
        name in ("train", "tests", "configs", "data")
        or name in sys.stdlib_module_names
        or _is_installed(name)
    ):
        raise UserError(f"{name!r} is the name of another module; a project of this name would hide it")


def _is_installed(name: str) -> bool:
    spec = find_spec(name)
    return spec is not None and spec.origin is not None  # a mere folder has no origin


def _target(template: Path, name: str) -> str:
    """Return the path of the file that a template becomes, within the project."""
    path = template.as_posix().removesuffix(SUFFIX).replace("__project__", name)
    return ".gitignore" if path == "gitignore" else path


def _draw(folder: Path, part: str, count: int, rng: np.random.Generator) -> None:
    """Draw pictures of toys, and write their boxes as a CSV file."""
    (folder / part).mkdir(parents=True)
    with open(folder / f"{part}.csv", "w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["file", "class", "x0", "y0", "x1", "y1"])
        for number in range(1, count + 1):
            pixels, toys, _ = draw_scene(rng)
            name = f"{number:03d}.jpg"
            Image.fromarray(pixels).save(folder / part / name, quality=90)
            for toy in toys:
                x, y, width, height = (round(v) for v in mask_box(toy.mask))
                rows.writerow([name, TOYS[toy.kind], x, y, x + width, y + height])
