"""Where the configs of the zoo and their published weights are."""

import os
from functools import lru_cache

from detectron2.config.projects import project_config_file, project_config_names
from detectron2.utils.suggest import did_you_mean

from .checkpoints import CHECKPOINTS, ZOO_URL
from .project_checkpoints import PROJECT_WEIGHTS

__all__ = ["CONFIG_DIR", "UnknownConfigError", "config_names", "get_checkpoint_url", "get_config_file"]

CONFIG_DIR = os.path.join(os.path.dirname(os.path.abspath(__file__)), "configs")


class UnknownConfigError(ValueError, RuntimeError):
    """There is no such config, or no weights for it; also a RuntimeError, which older programs expect."""


@lru_cache(maxsize=1)
def config_names() -> tuple[str, ...]:
    """Return the names of all configs: paths relative to the folder of configs, and ``PROJECT/configs/…``, sorted."""
    found = list(project_config_names())
    for folder, _, files in os.walk(CONFIG_DIR):
        for file in files:
            if file.endswith((".yaml", ".py")) and not file.startswith("_"):
                found.append(os.path.relpath(os.path.join(folder, file), CONFIG_DIR).replace(os.sep, "/"))
    return tuple(sorted(found))


def get_checkpoint_url(config_path: str) -> str:
    """Address of the published weights of a config.

    Args:
        config_path: such as ``"COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_3x.yaml"``.

    Raises:
        UnknownConfigError: if no weights were published for it.
    """
    name = _without_extension(config_path)
    if name in PROJECT_WEIGHTS:
        return PROJECT_WEIGHTS[name]
    if name not in CHECKPOINTS:
        known = [*CHECKPOINTS, *PROJECT_WEIGHTS]
        raise UnknownConfigError(f"no weights were published for {config_path}. {did_you_mean(name, known)}")
    return f"{ZOO_URL}{name}/{CHECKPOINTS[name]}"


def get_config_file(config_path: str) -> str:
    """Return the path of a config file on this machine.

    Args:
        config_path: relative to the folder of all configs, such as ``"Misc/semantic_R_50_FPN_1x.yaml"``; or, for a
            project, ``"PointRend/configs/…"``.

    Raises:
        UnknownConfigError: if there is none; lists the nearest.
    """
    path = project_config_file(config_path) or os.path.join(CONFIG_DIR, config_path)
    if not os.path.isfile(path):
        raise UnknownConfigError(
            f"the zoo has no config {config_path!r}. {did_you_mean(config_path, config_names())}"
        )
    return path


def _without_extension(config_path: str) -> str:
    base, extension = os.path.splitext(config_path)
    return base.replace(os.sep, "/") if extension in (".yaml", ".py") else config_path
