"""Reference pages that the build makes from the code: commands, config keys, label formats, and modules.

Three directives, ``command-options``, ``config-keys`` and ``label-formats``, write their part of a page; the pages of the
API are files in ``docs/reference/api``, which git does not keep.
"""

import argparse
import inspect
import json
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from config_comments import meanings
from docutils import nodes
from public_names import packages, pages_of
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from detectron2 import config
from detectron2.cli.arguments import build_parser
from detectron2.config import CfgNode, get_cfg
from detectron2.config.training_options import OPTIONS
from detectron2.data.formats import FORMATS, read_dataset, write_dataset
from detectron2.data.toys import write_toys
from detectron2.projects import (
    deeplab,
    densepose,
    mask2former,
    maskdino,
    panoptic_deeplab,
    point_rend,
    point_sup,
    tensormask,
    tridentnet,
)

CONFIG = Path(config.__file__).parent
PROJECTS: dict[str, Callable[[CfgNode], None]] = {
    "PointRend": point_rend.add_pointrend_config,
    "PointSup": point_sup.add_point_sup_config,
    "DeepLab": deeplab.add_deeplab_config,
    "Panoptic-DeepLab": panoptic_deeplab.add_panoptic_deeplab_config,
    "TridentNet": tridentnet.add_tridentnet_config,
    "TensorMask": tensormask.add_tensormask_config,
    "DensePose": densepose.add_densepose_config,
    "Mask2Former": mask2former.add_maskformer2_config,
    "MaskDINO": maskdino.add_maskdino_config,
}


def _cell(text: object) -> str:
    return str(text).replace("|", r"\|").replace("\n", " ")


def _row(*cells: object) -> str:
    return "| " + " | ".join(map(_cell, cells)) + " |"


def _sentence(text: str | None) -> str:
    text = (text or "").strip()
    return text[:1].upper() + text[1:] + "."


# ------------------------------------------------------------------ commands
def commands() -> dict[str, argparse.ArgumentParser]:
    """Return the parser of each command."""
    subs = next(a for a in build_parser()._actions if isinstance(a, argparse._SubParsersAction))
    return dict(subs.choices)


def command_pages() -> Iterator[str]:
    """Yield a section for each command, in Markdown."""
    for name, parser in commands().items():
        yield f"## {name}\n\n{_sentence(parser.description)}\n"
        yield f"```text\n{parser.format_usage().strip()}\n```\n"
        if parser.epilog:
            yield (
                "```console\n"
                + "\n".join(line.strip() for line in parser.epilog.splitlines()[1:])
                + "\n```\n"
            )
        yield "\n".join(["| argument | meaning |", "|---|---|", *_options(parser)]) + "\n"


def _options(parser: argparse.ArgumentParser) -> Iterator[str]:
    formatter = parser._get_formatter()
    for action in parser._actions:
        if action.help == argparse.SUPPRESS:
            continue
        value = (
            "" if action.nargs == 0 else formatter._format_args(action, action.metavar or action.dest.upper())
        )
        if action.choices and not action.metavar:
            value = "{" + ",".join(map(str, action.choices)) + "}"
        names = [f"`{option} {value}`" if value else f"`{option}`" for option in action.option_strings]
        text = formatter._expand_help(action) if action.help else ""
        yield _row(", ".join(names) or f"`{value}`", text)


# ------------------------------------------------------------------ config keys
def flat(node: CfgNode, prefix: str = "") -> Iterator[tuple[str, object]]:
    """Yield each key of a config with its dots, and its value."""
    for key in dict.keys(node):  # `node.keys()` hides those that Detectron2 does not have
        value = node[key]
        if isinstance(value, CfgNode):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def config_keys() -> dict[str, tuple[object, str, str]]:
    """Return default, name in Python configs ("" for none) and meaning of each key."""
    lazy = {row.key: row.lazy for row in OPTIONS.values()}
    known = meanings(CONFIG / "defaults.py", CONFIG / "yacs/new_keys.py") | {
        row.key: row.meaning for row in OPTIONS.values()
    }
    return {key: (value, lazy.get(key, ""), known.get(key, "")) for key, value in sorted(flat(get_cfg()))}


def project_keys(project: str) -> dict[str, tuple[object, str]]:
    """Return default and meaning of each key that a project adds or whose default it changes."""
    cfg, add = get_cfg(), PROJECTS[project]
    before = dict(flat(cfg))
    add(cfg)
    files = {
        inspect.getfile(step): None
        for step in (deeplab.add_deeplab_config, mask2former.add_maskformer2_config, add)
    }
    known = meanings(*map(Path, files))
    return {
        key: (value, known.get(key) or known.get(key.rpartition(".")[0], ""))
        for key, value in sorted(flat(cfg))
        if key not in before or before[key] != value
    }


def config_pages() -> Iterator[str]:
    """Yield a section for each group of keys, and one for each project, in Markdown."""
    groups: dict[str, list[str]] = {}
    for key, (default, lazy, meaning) in config_keys().items():
        parts = key.split(".")
        group = (
            ".".join(parts[: 2 if parts[0] == "MODEL" else 1])
            if len(parts) > 2 or parts[0] != "MODEL"
            else "MODEL"
        )
        group = group if len(parts) > 1 else "Others"
        groups.setdefault(group, []).append(
            _row(f"`{key}`", f"`{lazy}`" if lazy else "", f"`{default!r}`", meaning)
        )
    for group, rows in groups.items():
        head = ["| key | in Python configs | default | meaning |", "|---|---|---|---|"]
        yield f"## {group}\n\n" + "\n".join(head + rows) + "\n"
    for project, add in PROJECTS.items():
        rows = [
            _row(f"`{key}`", f"`{value!r}`", text) for key, (value, text) in project_keys(project).items()
        ]
        lines = [
            f"`{add.__module__}.{add.__name__}(cfg)` adds these keys.",
            "",
            "| key | default | meaning |",
            "|---|---|---|",
        ]
        yield f"## {project}\n\n" + "\n".join(lines + rows) + "\n"


# ------------------------------------------------------------------ formats of labels
def format_pages() -> Iterator[str]:
    """Yield a section for each format, in Markdown, with the labels of one picture written in it."""
    with tempfile.TemporaryDirectory() as folder:
        toys = write_toys(Path(folder) / "toys", {"train": 1}, toys=2)
        for name, known in FORMATS:
            about = inspect.getdoc(inspect.getmodule(known.read)) or ""
            use = "read and written" if known.write else "read only"
            yield f"## {name}\n\n{known.title}; {use} (`--format {name}`).\n"
            yield f"```{{eval-rst}}\n{about}\n```\n"
            if text := _example(name, toys, Path(folder) / name):
                yield f"One picture with two toys:\n\n```text\n{text}\n```\n"


def _example(name: str, toys: Path, folder: Path) -> str:
    """Write a picture's labels in a format, and return the beginning of the file; "" if it holds no text."""
    labels = {"dota": "train_rotated.json", "coco_panoptic": "train_panoptic.json"}.get(name, "train.json")
    if name in ("semantic", "huggingface"):
        return ""  # pictures, and a binary table
    write_dataset(read_dataset(toys / labels, images=toys / "train"), folder, name)
    for path in sorted(folder.rglob("*")):
        if path.suffix in (".json", ".xml", ".txt") and path.name != "classes.txt":
            text = path.read_text(encoding="utf-8")
            if path.suffix == ".json":
                text = _short_json(json.loads(text))
            lines = [line[:400] + (" …" if len(line) > 400 else "") for line in text.splitlines()]
            return "\n".join(
                [path.relative_to(folder).as_posix() + ":", "", *lines[:30], *["…"][: len(lines) - 30 > 0]]
            )
    return ""


def _short_json(content: dict[str, Any]) -> str:
    """Return one line for each key, with the first few numbers of long lists."""

    def short(value: Any) -> Any:
        if isinstance(value, list):
            return [short(v) for v in value[:4]] + ["…"][: len(value) > 4]
        return {k: short(v) for k, v in value.items()} if isinstance(value, dict) else value

    lines = [
        f"  {json.dumps(k)}: {json.dumps(short(v), ensure_ascii=False)}"
        for k, v in content.items()
        if v and k != "info"
    ]
    return "{\n" + ",\n".join(lines) + "\n}"


# ------------------------------------------------------------------ modules
def write_api(folder: Path) -> None:
    """Write a page for each package, and the list of them; files that would not change are left alone."""
    written = {folder / "index.rst": _contents([name for name, _ in packages()])}
    for name, modules in packages():
        written[folder / f"{name}.rst"] = pages_of(name, modules)
    folder.mkdir(parents=True, exist_ok=True)
    for old in set(folder.glob("*.rst")) - set(written):
        old.unlink()
    for path, text in written.items():
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


def _contents(names: list[str]) -> str:
    title = "Python modules"
    intro = (
        "Each public class and function, by package, from its docstring: shapes, units, ranges, errors and papers."
        " A name that can be imported from several places stands under the shortest."
    )
    return f"{title}\n{'=' * len(title)}\n\n{intro}\n\n.. toctree::\n   :maxdepth: 1\n\n" + "".join(
        f"   {name}\n" for name in names
    )


# ------------------------------------------------------------------ Sphinx
def _directive(make: Callable[[], Iterator[str]]) -> type[SphinxDirective]:
    class Generated(SphinxDirective):
        def run(self) -> list[nodes.Node]:
            return self.parse_text_to_nodes("\n".join(make()), allow_section_headings=True)

    return Generated


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directives, and write the pages of the API before pages are read."""
    app.add_directive("command-options", _directive(command_pages))
    app.add_directive("config-keys", _directive(config_pages))
    app.add_directive("label-formats", _directive(format_pages))
    app.connect("builder-inited", lambda app: write_api(Path(app.srcdir) / "reference" / "api"))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
