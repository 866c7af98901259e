"""Look up the licences of published weights by URL.

The table repeats what the publishers state. It is not legal advice, and does not follow later changes.
"""

import logging
from typing import NamedTuple

__all__ = ["UNKNOWN", "Licence", "log_restrictions", "weights_licence"]


class Licence(NamedTuple):
    """What may be done with weights, code or data.

    Attributes:
        name: such as ``"CC BY-NC 4.0"``.
        kind: ``"permissive"`` (MIT, BSD, Apache, CC BY: any use, with attribution), ``"share-alike"`` (CC BY-SA: any
            use, adaptations under the same licence), ``"non-commercial"`` or ``"unknown"``.
        source: where this is stated.
    """

    name: str
    kind: str
    source: str = ""


UNKNOWN = Licence("not stated", "unknown", "nothing is recorded here")

_DETECTRON2 = Licence("CC BY-SA 3.0", "share-alike", "MODEL_ZOO.md of Detectron2 and its projects")
_MAE = Licence("CC BY-NC 4.0", "non-commercial", "LICENSE of facebookresearch/mae")
_DETREX = "LICENSE of the repository (detrex, MaskDINO); no separate statement about weights"

# The first entry whose text occurs in the address applies.
_BY_ADDRESS: tuple[tuple[str, Licence], ...] = (
    (
        "dl.fbaipublicfiles.com/maskformer/",
        Licence("CC BY-NC 4.0", "non-commercial", "MODEL_ZOO.md of Mask2Former"),
    ),
    ("ImageNetPretrained/MAE/", _MAE),
    ("dl.fbaipublicfiles.com/mae/", _MAE),
    ("ImageNetPretrained/swin/", Licence("MIT", "permissive", "LICENSE of microsoft/Swin-Transformer")),
    ("ImageNetPretrained/mvitv2/", Licence("Apache-2.0", "permissive", "LICENSE of facebookresearch/mvit")),
    (
        "ImageNetPretrained/torchvision/",
        Licence("BSD-3-Clause", "permissive", "LICENSE of torchvision; no separate statement about weights"),
    ),
    ("dl.fbaipublicfiles.com/pycls/", Licence("MIT", "permissive", "LICENSE of facebookresearch/pycls")),
    ("detectron2://", _DETECTRON2),
    ("catalog://", _DETECTRON2),
    ("dl.fbaipublicfiles.com/detectron2/", _DETECTRON2),
    ("dl.fbaipublicfiles.com/densepose/", _DETECTRON2),
    ("dl.fbaipublicfiles.com/detectron/", _DETECTRON2),
    (
        # These models were trained from MAE's weights, which forbid commercial use.
        "detrex-storage/releases/download/v0.2.1/dino_vitdet_",
        Licence(
            "Apache-2.0, from MAE (CC BY-NC 4.0)", "non-commercial", f"{_DETREX}; trained from MAE's weights"
        ),
    ),
    ("github.com/IDEA-Research/detrex-storage/", Licence("Apache-2.0", "permissive", _DETREX)),
    (
        "huggingface.co/Yuxin-CV/EVA-02/",
        Licence("MIT", "permissive", "LICENSE of EVA and the model card of Yuxin-CV/EVA-02"),
    ),
)
_said: set[str] = set()


def weights_licence(address: str) -> Licence:
    """Look up the licence of weights.

    Args:
        address: URL, or path such as ``detectron2://…``.

    Returns:
        The licence; :data:`UNKNOWN` for an address that is not in the table, such as a local file.
    """
    return next((licence for part, licence in _BY_ADDRESS if part in address), UNKNOWN)


def log_restrictions(address: str, logger: logging.Logger) -> None:
    """Log a warning, once per process, if weights may not be used commercially.

    Args:
        address: where the weights were loaded from.
        logger: where to log it.
    """
    licence = weights_licence(address)
    if licence.kind == "non-commercial" and address not in _said:
        _said.add(address)
        logger.warning(f"{address} is licensed {licence.name}: not for commercial use ({licence.source})")
