"""A yacs-style config as a Python config, for the architectures that the zoo has in both forms.

The architecture picks a Python config of the zoo as the template; the key table fills in the values. What has no
place in the Python config is not dropped silently: it is listed.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from key_table import RULES, Rule
from parts import PARTS, TAKEN, ConversionError, get_at, put_at

from detectron2.config import CfgNode, LazyConfig, get_cfg
from detectron2.engine.run_config.files import flatten
from detectron2.model_zoo import get_config_file

__all__ = ["FORMS", "Conversion", "ConversionError", "to_python"]


class Conversion(NamedTuple):
    """A converted config, and the keys of the original that differ from the template but have no place in it."""

    config: Any
    lost: list[str]


class _Form(NamedTuple):
    """One architecture in both forms.

    Attributes:
        name: for people.
        template: Python config of the zoo with all parts.
        base: yacs config of the zoo that it corresponds to.
        fits: whether a yacs config is of this architecture.
        moved: places that this architecture has elsewhere than the key table says, longest first.
    """

    name: str
    template: str
    base: str
    fits: Callable[[CfgNode], bool]
    moved: tuple[tuple[str, str], ...] = ()


def _is(meta: str, backbone: str, heads: str = "", keypoint: bool = False) -> Callable[[CfgNode], bool]:
    def fits(cfg: CfgNode) -> bool:
        m = cfg.MODEL
        same = m.META_ARCHITECTURE == meta and m.BACKBONE.NAME == backbone and bool(m.KEYPOINT_ON) == keypoint
        return same and (not heads or m.ROI_HEADS.NAME == heads)

    return fits


_FPN = "build_resnet_fpn_backbone"
_C4_MOVED = (
    ("model.backbone.bottom_up", "model.backbone"),
    ("model.roi_heads.box_in_features", "model.roi_heads.in_features"),
    ("model.roi_heads.box_pooler", "model.roi_heads.pooler"),
    ("model.roi_heads.box_head", "nowhere"),
    ("model.roi_heads.mask_pooler", "nowhere"),
    ("model.roi_heads.mask_in_features", "nowhere"),
    ("model.roi_heads.mask_head.input_shape", "nowhere"),
)
FORMS = (
    _Form(
        "Mask R-CNN (or Faster R-CNN) with FPN",
        "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x.py",
        "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x.yaml",
        _is("GeneralizedRCNN", _FPN, "StandardROIHeads"),
    ),
    _Form(
        "Keypoint R-CNN with FPN",
        "COCO-Keypoints/keypoint_rcnn_R_50_FPN_1x.py",
        "COCO-Keypoints/keypoint_rcnn_R_50_FPN_1x.yaml",
        _is("GeneralizedRCNN", _FPN, "StandardROIHeads", keypoint=True),
    ),
    _Form(
        "Mask R-CNN (or Faster R-CNN) with C4",
        "COCO-InstanceSegmentation/mask_rcnn_R_50_C4_1x.py",
        "COCO-InstanceSegmentation/mask_rcnn_R_50_C4_1x.yaml",
        _is("GeneralizedRCNN", "build_resnet_backbone", "Res5ROIHeads"),
        _C4_MOVED,
    ),
    _Form(
        "Panoptic FPN",
        "COCO-PanopticSegmentation/panoptic_fpn_R_50_1x.py",
        "COCO-PanopticSegmentation/panoptic_fpn_R_50_1x.yaml",
        _is("PanopticFPN", _FPN, "StandardROIHeads"),
    ),
    _Form(
        "RetinaNet",
        "COCO-Detection/retinanet_R_50_FPN_1x.py",
        "COCO-Detection/retinanet_R_50_FPN_1x.yaml",
        _is("RetinaNet", "build_retinanet_resnet_fpn_backbone"),
        (("model.proposal_generator.anchor_generator", "model.anchor_generator"),),
    ),
)


def _places(rule: Rule, form: _Form) -> list[str]:
    found = []
    for place in rule.new:
        for old, new in form.moved:
            if place == old or place.startswith(old + "."):
                place = new + place[len(old) :]
                break
        found.append(place)
    return [p for p in found if not p.startswith("nowhere")]


def _applicable(form: _Form) -> Iterator[tuple[Rule, list[str]]]:
    """Rules for keys that the architecture has, with its places for them."""
    retina = form.name == "RetinaNet"
    for rule in RULES:
        skipped = (
            ("MODEL.RPN.", "MODEL.ROI_", "MODEL.PROPOSAL_GENERATOR.", "TEST.DETECTIONS") if retina else ()
        )
        places = _places(rule, form)
        if retina and rule.old == "TEST.DETECTIONS_PER_IMAGE":
            yield rule, ["model.max_detections_per_image"]
        elif places and not rule.old.startswith(skipped or "-") and (retina or "RETINANET" not in rule.old):
            yield rule, places


def to_python(cfg: CfgNode) -> Conversion:
    """Write a yacs-style config as a Python config.

    Args:
        cfg: of an architecture in ``FORMS``; it is not changed.

    Returns:
        The Python config, and the keys whose value differs from its default but could not be taken over.

    Raises:
        ConversionError: if the zoo has no Python form for the architecture.
    """
    form = next((f for f in FORMS if f.fits(cfg)), None)
    if form is None:
        m = cfg.MODEL
        raise ConversionError(
            f"there is no Python form for {m.META_ARCHITECTURE} with {m.BACKBONE.NAME} and {m.ROI_HEADS.NAME}; "
            f"there are: {', '.join(f.name for f in FORMS)}"
        )
    lazy = LazyConfig.load(get_config_file(form.template))
    defaults, values = flatten(get_cfg()), flatten(cfg)
    parts = set(TAKEN)
    for rule, places in _applicable(form):
        new = rule.to_new(cfg_value := values[rule.old])
        fitting = [p for p in places if _has_parent(lazy, p)]
        if fitting:
            parts.add(rule.old)
        for place in fitting:
            unset = defaults[rule.old] if rule.unset is None else rule.unset
            if _there(lazy, place) or (place == places[0] and not _equal(cfg_value, unset)):
                put_at(lazy, place, list(new) if isinstance(new, tuple) else new)
    for part in PARTS:
        part(cfg, lazy)
    lost = [k for k in sorted(values) if k not in parts and not _equal(values[k], defaults.get(k))]
    return Conversion(lazy, lost)


def _has_parent(lazy: Any, place: str) -> bool:
    parent, _, last = place.rpartition(".")
    node = get_at(lazy, parent)
    return hasattr(node, "keys") or (last.isdigit() and hasattr(node, "__len__") and int(last) < len(node))


def _there(lazy: Any, place: str) -> bool:
    return get_at(lazy, place, _NOTHING) is not _NOTHING


_NOTHING: Any = object()


def _equal(a: Any, b: Any) -> bool:
    if hasattr(a, "__len__") and hasattr(b, "__len__") and not isinstance(a, str) and not isinstance(b, str):
        return len(a) == len(b) and all(_equal(x, y) for x, y in zip(a, b))
    return bool(a == b)


# ------------------------------------------------------------ Python to yacs
