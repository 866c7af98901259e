"""Licences of code, weights and data of each entry of the zoo.

``detectron2 zoo --licence`` filters by them. All code in this package is Apache-2.0; the column of the code names the
licence of the code that the weights were published with, for those who compare.
"""

import re
from typing import NamedTuple

from detectron2.utils.licences import UNKNOWN, Licence, weights_licence
from detectron2.utils.suggest import did_you_mean

__all__ = ["FILTERS", "Licences", "data_licences", "fits", "licences_of"]

FILTERS = ("permissive", "commercial")
"""What ``--licence`` takes.

* ``permissive``: code and weights under MIT, BSD, Apache or CC BY terms, and no data set that is for non-commercial use.
* ``commercial``: the same, with share-alike licences (CC BY-SA) allowed, too.

Entries without published weights fit neither, since there is nothing to be sure of.
"""

_APACHE = Licence("Apache-2.0", "permissive")
_CODE = {
    "Mask2Former": Licence("MIT", "permissive", "LICENSE of Mask2Former"),
    "EVA-02": Licence("MIT", "permissive", "LICENSE of EVA; its fork of Detectron2 is Apache-2.0"),
}

_DATA: dict[str, Licence] = {
    "COCO": Licence("CC BY 4.0, images: Flickr", "permissive", "cocodataset.org, terms of use"),
    "LVIS": Licence("CC BY 4.0, images: COCO's", "permissive", "lvisdataset.org"),
    "Objects365": Licence("CC BY 4.0, images: Flickr", "permissive", "objects365.org"),
    "Pascal VOC": Licence("images: Flickr", "unknown", "host.robots.ox.ac.uk/pascal/VOC"),
    "Cityscapes": Licence("own terms, non-commercial", "non-commercial", "cityscapes-dataset.com/license"),
    "ADE20K": Licence("own terms, non-commercial", "non-commercial", "ADE20K, terms of use of the images"),
    "Mapillary Vistas": Licence("CC BY-NC-SA 4.0", "non-commercial", "mapillary.com, research edition"),
    "DensePose-COCO": UNKNOWN,
    "ImageNet": Licence("own terms, non-commercial", "non-commercial", "image-net.org, terms of access"),
}

# What occurs in the path of a config -> the data sets; the first that fits.
_DATA_OF: tuple[tuple[str, tuple[str, ...]], ...] = (
    (r"o365_to_coco", ("Objects365", "COCO")),
    (r"o365_to_lvis", ("Objects365", "LVIS")),
    (r"o365", ("Objects365",)),
    (r"lvis", ("LVIS",)),
    (r"cityscapes", ("Cityscapes",)),
    (r"ade20k", ("ADE20K",)),
    (r"mapillary", ("Mapillary Vistas",)),
    (r"pascalvoc", ("Pascal VOC",)),
    (r"densepose", ("COCO", "DensePose-COCO")),
    (r"imagenet", ("ImageNet",)),
)


class Licences(NamedTuple):
    """Licences of one entry.

    Attributes:
        code: of the code that it was published with.
        weights: of the published weights; None where there are none.
        data: name and licence of each data set that the detector was trained on. Backbones are pre-trained on
            ImageNet, too, whose images are for non-commercial research; this is true of nearly all and not listed.
    """

    code: Licence
    weights: Licence | None
    data: dict[str, Licence]


def data_licences(path: str) -> dict[str, Licence]:
    """Return the data sets of a config of the zoo, with their licences."""
    low = path.lower()
    names = next((names for pattern, names in _DATA_OF if re.search(pattern, low)), ("COCO",))
    return {name: _DATA[name] for name in names}


def licences_of(path: str, checkpoint: str | None) -> Licences:
    """Return the licences of an entry.

    Args:
        path: of its config, as the zoo names it.
        checkpoint: address of its weights, or None.
    """
    code = _CODE.get(path.split("/")[0], _APACHE)
    return Licences(code, weights_licence(checkpoint) if checkpoint else None, data_licences(path))


def fits(licences: Licences, wanted: str) -> bool:
    """Return whether an entry may be used as one of :data:`FILTERS` says.

    Raises:
        ValueError: for another ``wanted``.
    """
    if wanted not in FILTERS:
        raise ValueError(f"there is no group of licences {wanted!r}. {did_you_mean(wanted, FILTERS)}")
    allowed = {"permissive"} if wanted == "permissive" else {"permissive", "share-alike"}
    if licences.weights is None or licences.weights.kind not in allowed:
        return False
    return licences.code.kind in allowed and all(d.kind in allowed for d in licences.data.values())
