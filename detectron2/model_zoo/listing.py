"""What the zoo has: for ``detectron2 zoo`` and for finding a config by a short name."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from detectron2.config.projects import PROJECTS
from detectron2.utils.errors import UserError
from detectron2.utils.suggest import did_you_mean, not_there

from .checkpoints import CHECKPOINTS
from .licences import Licences, fits, licences_of
from .paths import UnknownConfigError, config_names, get_checkpoint_url, get_config_file
from .project_checkpoints import PROJECT_FIGURES, PROJECT_WEIGHTS
from .published import PUBLISHED, Figures

__all__ = ["Entry", "entries", "find_config", "find_model", "rows", "source_of"]

SORT_KEYS = ("name", "box_ap", "other_ap", "train_seconds", "infer_seconds", "train_memory")
_NOTHING = Figures(None, None, "", None, None, None)


class Entry(NamedTuple):
    """One config of the zoo.

    Attributes:
        path: as ``model_zoo.get_config`` takes it.
        task: "detection", "instance segmentation", "keypoints", "panoptic segmentation", "semantic segmentation",
            "dense pose", "proposals" or "classification"; "" for the bases and parts of others.
        kind: "yaml" or "py".
        runnable: False for bases and common parts.
        checkpoint: address of the published weights, or None.
        figures: what was published; fields are None where nothing was.
        licences: of code, weights and data.
    """

    path: str
    task: str
    kind: str
    runnable: bool
    checkpoint: str | None
    figures: Figures
    licences: Licences


def _task(path: str) -> str:
    folder, _, name = path.rpartition("/")
    for kind in ("panoptic", "semantic", "instance"):  # folders of projects whose models do all three
        if f"{kind}-segmentation" in folder:
            return f"{kind} segmentation"
    for part, task in (
        ("keypoint", "keypoints"),
        ("panoptic", "panoptic segmentation"),
        ("semantic", "semantic segmentation"),
        ("deeplab", "semantic segmentation"),
        ("densepose", "dense pose"),
        ("pointrend", "instance segmentation"),
        ("mask", "instance segmentation"),
        ("rpn", "proposals"),
        ("imagenet", "classification"),
    ):
        if part in name:
            return task
    return "detection"


def entries(
    pattern: str = "",
    *,
    task: str = "",
    runnable: bool = True,
    trained: bool = False,
    quick: bool = False,
    licence: str = "",
) -> list[Entry]:
    """List configs.

    Args:
        pattern: words that must all occur in the path (case does not matter), or a pattern with ``*``.
        task: only this task; a part of its name is enough.
        runnable: leave out bases and common parts.
        trained: only those with published weights.
        quick: also the test configs in ``quick_schedules``.
        licence: only what may be used so: "permissive" or "commercial", see :data:`.licences.FILTERS`; "" for all.

    Returns:
        Entries sorted by path. A ``.py`` config shares weights and figures with the ``.yaml`` one of its name.
    """
    found = []
    for path in config_names():
        entry = _entry(path)
        wanted = (
            _matches(path, pattern)
            and (not task or task.lower() in entry.task)
            and (entry.runnable or not runnable)
            and (entry.checkpoint is not None or not trained)
            and (quick or "quick_schedules/" not in path)
            and (not licence or fits(entry.licences, licence))
        )
        if wanted:
            found.append(entry)
    return found


def _entry(path: str) -> Entry:
    name, extension = os.path.splitext(path)
    runnable = "common" not in path.split("/") and not os.path.basename(path).startswith("Base-")
    trained = name in CHECKPOINTS or name in PROJECT_WEIGHTS
    checkpoint = get_checkpoint_url(path) if trained else None
    figures = PUBLISHED.get(name) or PROJECT_FIGURES.get(name, _NOTHING)
    task, licences = _task(path) if runnable else "", licences_of(path, checkpoint)
    return Entry(path, task, extension[1:], runnable, checkpoint, figures, licences)


def _matches(path: str, pattern: str) -> bool:
    from fnmatch import fnmatch

    low = path.lower()
    if "*" in pattern or "?" in pattern:
        return fnmatch(low, pattern.lower()) or fnmatch(low, f"*{pattern.lower()}*")
    return all(word in low for word in pattern.lower().split())


def rows(found: Iterable[Entry], sort: str = "name") -> list[dict[str, Any]]:
    """Entries as rows of a table.

    Args:
        found: from :func:`entries`.
        sort: one of ``SORT_KEYS``; figures sort best first (AP falling, seconds and memory rising), entries without
            the figure come last.

    Returns:
        Dictionaries with the keys ``config``, ``task``, ``box AP``, ``other AP`` (text with its kind), ``train
        s/step``, ``test s/image``, ``train GB``, ``weights`` (True if published), ``code licence``, ``weights licence``,
        ``data licence``.

    Raises:
        ValueError: for another ``sort``.
    """
    if sort not in SORT_KEYS:
        raise ValueError(f"cannot sort by {sort!r}. {did_you_mean(sort, SORT_KEYS)}")
    ordered = sorted(found, key=lambda e: e.path)
    if sort != "name":
        sign = -1.0 if sort.endswith("_ap") else 1.0

        def rank(entry: Entry) -> tuple[bool, float]:
            value = getattr(entry.figures, sort)
            return value is None, sign * (value or 0.0)

        ordered.sort(key=rank)
    return [_row(e) for e in ordered]


def _row(entry: Entry) -> dict[str, Any]:
    f, licences = entry.figures, entry.licences
    return {
        "config": entry.path,
        "task": entry.task,
        "box AP": f.box_ap,
        "other AP": "" if f.other_ap is None else f"{f.other_ap:.1f} {f.other_name}",
        "train s/step": f.train_seconds,
        "test s/image": f.infer_seconds,
        "train GB": f.train_memory,
        "weights": entry.checkpoint is not None,
        "code licence": licences.code.name,
        "weights licence": licences.weights.name if licences.weights else "",
        "data licence": "; ".join(f"{name}: {data.name}" for name, data in licences.data.items()),
    }


def find_config(name: str) -> str:
    """Return the path of a config of the zoo from a full or short name.

    Args:
        name: a path as ``get_config`` takes it, with or without extension, or its last part
            (``"mask_rcnn_R_50_FPN_3x"``). Of several with this last part, those outside projects win, then those in
            ``COCO-*`` folders, then ``.yaml`` over ``.py`` unless an extension is given.

    Returns:
        The path.

    Raises:
        UnknownConfigError: if there is none (lists the nearest), or several that nothing tells apart.
    """
    names = config_names()
    if name in names:
        return name
    wanted = [p for p in names if name in (os.path.splitext(p)[0], p.rsplit("/", 1)[-1])]
    wanted = wanted or [p for p in names if os.path.splitext(p.rsplit("/", 1)[-1])[0] == name]
    wanted = [p for p in wanted if p.split("/")[0] not in PROJECTS] or wanted
    coco = [p for p in wanted if p.startswith("COCO-")]
    wanted = coco or wanted
    yaml = [p for p in wanted if p.endswith(".yaml")]
    wanted = yaml or wanted
    if len(wanted) == 1:
        return wanted[0]
    if wanted:
        raise UnknownConfigError(f"{name!r} may be {' or '.join(wanted)}. Give the folder, too.")
    short = {os.path.splitext(p.rsplit("/", 1)[-1])[0] for p in names}
    raise UnknownConfigError(f"the zoo has no config {name!r}. {did_you_mean(name, [*short, *names])}")


def find_model(name: str) -> tuple[str, str | None]:
    """Find the config that a name on the command line means.

    Args:
        name: a config file; or a name in the model zoo, with or without its folder and suffix.

    Returns:
        The config file, and its name in the model zoo (None for a file of the user's).

    Raises:
        UserError: nothing has that name, or several have.
    """
    if Path(name).is_file():
        return name, None
    try:
        found = find_config(name)
    except (KeyError, RuntimeError, ValueError) as error:
        text = error.args[0] if error.args else error
        if os.sep in name or name.endswith((".yaml", ".yml", ".py")):
            raise UserError(
                f"{not_there(name)}: it is neither the folder of a run nor a config file, and {text}"
            ) from None
        raise UserError(
            f"{text} There is no such folder or file either (`detectron2 zoo` lists the zoo)."
        ) from None
    return get_config_file(found), found


def source_of(name: str) -> str:
    """Return the text of the config file itself."""
    with open(get_config_file(find_config(name)), encoding="utf-8") as f:
        return f.read()
