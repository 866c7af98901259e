"""What was published about the models of the zoo, for ``detectron2 zoo``.

Measured by the authors of Detectron2 on 8 V100 GPUs (training: 16 images a step; inference: batches of one image).
"""

from typing import NamedTuple

__all__ = ["PUBLISHED", "Figures"]


class Figures(NamedTuple):
    """Published figures of one model; None where there is none.

    Attributes:
        box_ap: COCO box AP in percent (LVIS, VOC: of that data set).
        other_ap: mask AP, keypoint AP, panoptic quality or proposal AR@1000 in percent, as ``other_name`` says.
        other_name: "mask", "keypoint", "PQ" or "AR".
        train_seconds: per step.
        infer_seconds: per image.
        train_memory: GB on each GPU.
    """

    box_ap: float | None
    other_ap: float | None
    other_name: str
    train_seconds: float | None
    infer_seconds: float | None
    train_memory: float | None


def _figures(
    folder: str, name: str, other: str, rows: list[tuple[str, tuple[float | None, ...]]]
) -> dict[str, Figures]:
    """Return the rows of (what stands for ``*`` in the name, (train s, infer s, GB, box AP, other AP))."""
    return {
        f"{folder}/{name.replace('*', key)}": Figures(box, ap, other, train, infer, memory)
        for key, (train, infer, memory, box, ap) in rows
    }


_X101 = "X_101_32x8d"

PUBLISHED: dict[str, Figures] = {
    **_figures(
        "COCO-Detection",
        "*",
        "",
        [
            ("faster_rcnn_R_50_C4_1x", (0.551, 0.102, 4.8, 35.7, None)),
            ("faster_rcnn_R_50_DC5_1x", (0.380, 0.068, 5.0, 37.3, None)),
            ("faster_rcnn_R_50_FPN_1x", (0.210, 0.038, 3.0, 37.9, None)),
            ("faster_rcnn_R_50_C4_3x", (0.543, 0.104, 4.8, 38.4, None)),
            ("faster_rcnn_R_50_DC5_3x", (0.378, 0.070, 5.0, 39.0, None)),
            ("faster_rcnn_R_50_FPN_3x", (0.209, 0.038, 3.0, 40.2, None)),
            ("faster_rcnn_R_101_C4_3x", (0.619, 0.139, 5.9, 41.1, None)),
            ("faster_rcnn_R_101_DC5_3x", (0.452, 0.086, 6.1, 40.6, None)),
            ("faster_rcnn_R_101_FPN_3x", (0.286, 0.051, 4.1, 42.0, None)),
            (f"faster_rcnn_{_X101}_FPN_3x", (0.638, 0.098, 6.7, 43.0, None)),
            ("retinanet_R_50_FPN_1x", (0.205, 0.041, 4.1, 37.4, None)),
            ("retinanet_R_50_FPN_3x", (0.205, 0.041, 4.1, 38.7, None)),
            ("retinanet_R_101_FPN_3x", (0.291, 0.054, 5.2, 40.4, None)),
            ("fast_rcnn_R_50_FPN_1x", (0.140, 0.029, 2.6, 37.8, None)),
        ],
    ),
    **_figures(
        "COCO-Detection",
        "rpn_*_1x",
        "AR",
        [("R_50_C4", (0.130, 0.034, 1.5, None, 51.6)), ("R_50_FPN", (0.186, 0.032, 2.7, None, 58.0))],
    ),
    **_figures(
        "COCO-InstanceSegmentation",
        "mask_rcnn_*",
        "mask",
        [
            ("R_50_C4_1x", (0.584, 0.110, 5.2, 36.8, 32.2)),
            ("R_50_DC5_1x", (0.471, 0.076, 6.5, 38.3, 34.2)),
            ("R_50_FPN_1x", (0.261, 0.043, 3.4, 38.6, 35.2)),
            ("R_50_C4_3x", (0.575, 0.111, 5.2, 39.8, 34.4)),
            ("R_50_DC5_3x", (0.470, 0.076, 6.5, 40.0, 35.9)),
            ("R_50_FPN_3x", (0.261, 0.043, 3.4, 41.0, 37.2)),
            ("R_101_C4_3x", (0.652, 0.145, 6.3, 42.6, 36.7)),
            ("R_101_DC5_3x", (0.545, 0.092, 7.6, 41.9, 37.3)),
            ("R_101_FPN_3x", (0.340, 0.056, 4.6, 42.9, 38.6)),
            (f"{_X101}_FPN_3x", (0.690, 0.103, 7.2, 44.3, 39.5)),
        ],
    ),
    **_figures(
        "new_baselines",
        "mask_rcnn_*ep_LSJ",
        "mask",
        [
            ("R_50_FPN_100", (0.376, 0.069, None, 44.6, 40.3)),
            ("R_50_FPN_200", (0.376, 0.069, None, 46.3, 41.7)),
            ("R_50_FPN_400", (0.376, 0.069, None, 47.4, 42.5)),
            ("R_101_FPN_100", (0.518, 0.073, None, 46.4, 41.6)),
            ("R_101_FPN_200", (0.518, 0.073, None, 48.0, 43.1)),
            ("R_101_FPN_400", (0.518, 0.073, None, 48.9, 43.7)),
            ("regnetx_4gf_dds_FPN_400", (0.474, 0.071, None, 48.6, 43.5)),
            ("regnety_4gf_dds_FPN_400", (0.487, 0.072, None, 48.2, 43.3)),
        ],
    ),
    **_figures(
        "COCO-Keypoints",
        "keypoint_rcnn_*",
        "keypoint",
        [
            ("R_50_FPN_1x", (0.315, 0.072, 5.0, 53.6, 64.0)),
            ("R_50_FPN_3x", (0.316, 0.066, 5.0, 55.4, 65.5)),
            ("R_101_FPN_3x", (0.390, 0.076, 6.1, 56.4, 66.1)),
            (f"{_X101}_FPN_3x", (0.738, 0.121, 8.7, 57.3, 66.0)),
        ],
    ),
    **_figures(
        "COCO-PanopticSegmentation",
        "panoptic_fpn_*",
        "PQ",
        [
            ("R_50_1x", (0.304, 0.053, 4.8, 37.6, 39.4)),
            ("R_50_3x", (0.302, 0.053, 4.8, 40.0, 41.5)),
            ("R_101_3x", (0.392, 0.066, 6.0, 42.4, 43.0)),
        ],
    ),
    **_figures(
        "LVISv0.5-InstanceSegmentation",
        "mask_rcnn_*_FPN_1x",
        "mask",
        [
            ("R_50", (0.292, 0.107, 7.1, 23.6, 24.4)),
            ("R_101", (0.371, 0.114, 7.8, 25.6, 25.9)),
            (_X101, (0.712, 0.151, 10.2, 26.7, 27.1)),
        ],
    ),
    **_figures("Cityscapes", "mask_rcnn_R_50_*", "mask", [("FPN", (0.240, 0.078, 4.4, None, 36.5))]),
    **_figures("PascalVOC-Detection", "faster_rcnn_R_50_*", "", [("C4", (0.537, 0.081, 4.8, 51.9, None))]),
    **_figures(
        "Misc",
        "*",
        "mask",
        [
            ("mask_rcnn_R_50_FPN_1x_dconv_c3-c5", (0.342, 0.048, 3.5, 41.5, 37.5)),
            ("mask_rcnn_R_50_FPN_3x_dconv_c3-c5", (0.349, 0.047, 3.5, 42.7, 38.5)),
            ("cascade_mask_rcnn_R_50_FPN_1x", (0.317, 0.052, 4.0, 42.1, 36.4)),
            ("cascade_mask_rcnn_R_50_FPN_3x", (0.328, 0.053, 4.0, 44.3, 38.5)),
            ("mask_rcnn_R_50_FPN_3x_gn", (0.309, 0.060, 5.6, 42.6, 38.6)),
            ("mask_rcnn_R_50_FPN_3x_syncbn", (0.345, 0.053, 5.5, 41.9, 37.8)),
            ("scratch_mask_rcnn_R_50_FPN_9x_gn", (None, 0.061, 7.2, 43.7, 39.6)),
            ("cascade_mask_rcnn_X_152_32x8d_FPN_IN5k_gn_dconv", (None, 0.234, 15.1, 50.2, 44.0)),
        ],
    ),
    **_figures(
        "Misc",
        "panoptic_fpn_*_dconv_cascade_gn_3x",
        "PQ",
        [("R_101", (None, 0.098, 11.4, 47.4, 46.1))],
    ),
}
