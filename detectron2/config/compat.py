"""Convert configs between the key names of different versions."""

import copy
import logging
from collections.abc import Callable
from typing import Any, TypeVar

from detectron2.utils.reexports import passed_on
from detectron2.utils.suggest import did_you_mean

from .yacs.cfg_node import BaseNode

_Tree = TypeVar("_Tree", bound=dict[str, Any])

__all__ = ["downgrade_config", "upgrade_config"]

__getattr__ = passed_on(__name__)

logger = logging.getLogger(__name__)

# (older name, newer name) of each step between two versions; index 0 is from version 0 to 1.
_RENAMED: tuple[tuple[tuple[str, str], ...], ...] = (
    (("MODEL.RPN_HEAD.NAME", "MODEL.RPN.HEAD_NAME"),),
    (
        ("MODEL.WEIGHT", "MODEL.WEIGHTS"),
        ("MODEL.PANOPTIC_FPN.SEMANTIC_LOSS_SCALE", "MODEL.SEM_SEG_HEAD.LOSS_WEIGHT"),
        ("MODEL.PANOPTIC_FPN.RPN_LOSS_SCALE", "MODEL.RPN.LOSS_WEIGHT"),
        ("MODEL.PANOPTIC_FPN.INSTANCE_LOSS_SCALE", "MODEL.PANOPTIC_FPN.INSTANCE_LOSS_WEIGHT"),
        ("MODEL.PANOPTIC_FPN.COMBINE_ON", "MODEL.PANOPTIC_FPN.COMBINE.ENABLED"),
        ("MODEL.PANOPTIC_FPN.COMBINE_OVERLAP_THRESHOLD", "MODEL.PANOPTIC_FPN.COMBINE.OVERLAP_THRESH"),
        ("MODEL.PANOPTIC_FPN.COMBINE_STUFF_AREA_LIMIT", "MODEL.PANOPTIC_FPN.COMBINE.STUFF_AREA_LIMIT"),
        (
            "MODEL.PANOPTIC_FPN.COMBINE_INSTANCES_CONFIDENCE_THRESHOLD",
            "MODEL.PANOPTIC_FPN.COMBINE.INSTANCES_CONFIDENCE_THRESH",
        ),
        ("MODEL.ROI_HEADS.SCORE_THRESH", "MODEL.ROI_HEADS.SCORE_THRESH_TEST"),
        ("MODEL.ROI_HEADS.NMS", "MODEL.ROI_HEADS.NMS_THRESH_TEST"),
        ("MODEL.RETINANET.INFERENCE_SCORE_THRESHOLD", "MODEL.RETINANET.SCORE_THRESH_TEST"),
        ("MODEL.RETINANET.INFERENCE_TOPK_CANDIDATES", "MODEL.RETINANET.TOPK_CANDIDATES_TEST"),
        ("MODEL.RETINANET.INFERENCE_NMS_THRESHOLD", "MODEL.RETINANET.NMS_THRESH_TEST"),
        ("TEST.DETECTIONS_PER_IMG", "TEST.DETECTIONS_PER_IMAGE"),
        ("TEST.AUG_ON", "TEST.AUG.ENABLED"),
        ("TEST.AUG_MIN_SIZES", "TEST.AUG.MIN_SIZES"),
        ("TEST.AUG_MAX_SIZE", "TEST.AUG.MAX_SIZE"),
        ("TEST.AUG_FLIP", "TEST.AUG.FLIP"),
    ),
)
LATEST = len(_RENAMED)
_ANCHORS = "MODEL.ANCHOR_GENERATOR"


def upgrade_config(cfg: _Tree, to_version: int | None = None) -> _Tree:
    """Convert a config to the key names of a newer version.

    Args:
        cfg: any config with ``VERSION``; not changed.
        to_version: default: the latest.

    Returns:
        A new config, also if it already has that version.

    Raises:
        ValueError: if it is newer than ``to_version``.
    """
    return _walk(cfg, LATEST if to_version is None else to_version, up=True)


def downgrade_config(cfg: _Tree, to_version: int) -> _Tree:
    """Convert a complete config to the key names of an older version; the inverse of :func:`upgrade_config`.

    Keys that the old version did not have keep their current names, since this only serves to merge old files.

    Args:
        cfg: config with ``VERSION``; not changed.
        to_version: 0 or 1.

    Returns:
        A new config.

    Raises:
        ValueError: if it is older than ``to_version``, or there is no such version.
    """
    return _walk(cfg, to_version, up=False)


def guess_version(cfg: dict[str, Any], filename: str) -> int:
    """Guess the version of a (partial) config without ``VERSION`` from its keys.

    Args:
        cfg: content of a file.
        filename: for the log.

    Returns:
        The oldest version that has one of its keys; the latest if it uses no old key.
    """
    for version in reversed(range(LATEST)):
        old = [name for name, _ in _RENAMED[version] if _get(cfg, name) is not _NOTHING]
        if version == 1:
            old += [
                k
                for k in ("MODEL.RPN.ANCHOR_SIZES", "MODEL.RETINANET.ANCHOR_SIZES")
                if _get(cfg, k) is not _NOTHING
            ]
        if old:
            # A file may mix keys of versions 0 and 1; upgrading from 0 converts both.
            oldest = 0 if any(_get(cfg, name) is not _NOTHING for name, _ in _RENAMED[0]) else version
            logger.warning(
                "%s has no VERSION; read as version %d because it uses %s", filename, oldest, old[0]
            )
            return oldest
    return LATEST


def _walk(cfg: _Tree, target: int, up: bool) -> _Tree:
    cfg = copy.deepcopy(cfg)
    frozen = isinstance(cfg, BaseNode) and cfg.is_frozen()
    if isinstance(cfg, BaseNode):
        cfg.defrost()
    version = cfg.get("VERSION")
    if (
        not isinstance(version, int)
        or not 0 <= target <= LATEST
        or (target < version if up else target > version)
    ):
        word = "upgrade" if up else "downgrade"
        raise ValueError(
            f"cannot {word} a config of VERSION {version!r} to {target!r}; versions are 0 to {LATEST}"
        )
    while cfg["VERSION"] != target:
        step = cfg["VERSION"] if up else cfg["VERSION"] - 1
        for older, newer in _RENAMED[step]:
            _move(cfg, *((older, newer) if up else (newer, older)))
        extra: Callable[[dict[str, Any]], None] | None = {
            (1, True): _join_anchors,
            (1, False): _split_anchors,
        }.get((step, up))
        if extra is not None:
            extra(cfg)
        cfg["VERSION"] = step + 1 if up else step
    if isinstance(cfg, BaseNode) and frozen:
        cfg.freeze()
    return cfg


def _split_anchors(cfg: dict[str, Any]) -> None:
    """Copy the anchors to the keys of RPN and RetinaNet, which were separate in version 1."""
    for key in ("SIZES", "ASPECT_RATIOS"):
        value = _get(cfg, f"{_ANCHORS}.{key}")
        if value is not _NOTHING:
            for owner in ("RPN", "RETINANET"):
                _set(cfg, f"MODEL.{owner}.ANCHOR_{key}", copy.deepcopy(value))
    _drop(cfg, f"{_ANCHORS}.SIZES")
    _drop(cfg, f"{_ANCHORS}.ASPECT_RATIOS")
    _set(cfg, "MODEL.RETINANET.ANCHOR_STRIDES", [])


def _join_anchors(cfg: dict[str, Any]) -> None:
    """Keep only the anchors of the architecture in use, as since version 2."""
    retina = _get(cfg, "MODEL.META_ARCHITECTURE") == "RetinaNet"
    used, other = ("RETINANET", "RPN") if retina else ("RPN", "RETINANET")
    for key in ("SIZES", "ASPECT_RATIOS"):
        value = _get(cfg, f"MODEL.{used}.ANCHOR_{key}")
        if value is not _NOTHING:
            _set(cfg, f"{_ANCHORS}.{key}", value)
        for owner in (used, other):
            _drop(cfg, f"MODEL.{owner}.ANCHOR_{key}")
    _drop(cfg, "MODEL.RETINANET.ANCHOR_STRIDES")


# ------------------------------------------------------------ dotted paths
_NOTHING = object()


def _parent(cfg: dict[str, Any], key: str, make: bool = False) -> tuple[Any, str]:
    *path, last = key.split(".")
    node = cfg
    for part in path:
        if part not in node:
            if not make:
                return None, last
            node[part] = type(cfg)()
        node = node[part]
        if not isinstance(node, dict):
            if make:
                raise ValueError(f"{key}: {part} is a value, not a group of keys. {did_you_mean(part, cfg)}")
            return None, last
    return node, last


def _get(cfg: dict[str, Any], key: str) -> Any:
    node, last = _parent(cfg, key)
    return _NOTHING if node is None or last not in node else node[last]


def _set(cfg: dict[str, Any], key: str, value: object) -> None:
    node, last = _parent(cfg, key, make=True)
    node[last] = value


def _drop(cfg: dict[str, Any], key: str) -> None:
    """Remove a key, and groups that become empty."""
    parts = key.split(".")
    node, last = _parent(cfg, key)
    if node is None or last not in node:
        return
    del node[last]
    if not dict.__len__(node) and len(parts) > 1:
        _drop(cfg, ".".join(parts[:-1]))


def _move(cfg: dict[str, Any], source: str, target: str) -> None:
    value = _get(cfg, source)
    if value is not _NOTHING:
        _drop(cfg, source)
        _set(cfg, target, value)
