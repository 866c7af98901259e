"""Small configs, scenes and records for the tests of Panoptic-DeepLab."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from detectron2.config import CfgNode, get_cfg
from detectron2.projects import panoptic_deeplab

CITYSCAPES = Path(panoptic_deeplab.__file__).parent / "configs" / "Cityscapes-PanopticSegmentation"
R52 = "panoptic_deeplab_R_52_os16_mg124_poly_90k_bs32_crop_512_1024.yaml"
R52_SEPARABLE = "panoptic_deeplab_R_52_os16_mg124_poly_90k_bs32_crop_512_1024_dsconv.yaml"
DATASET = "panoptic_deeplab_test"
THINGS = (3, 4)
SMALL = [
    *("MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", "", "INPUT.CROP.ENABLED", False, "DATASETS.TRAIN", [DATASET]),
    *("MODEL.RESNETS.NORM", "BN", "MODEL.RESNETS.STEM_OUT_CHANNELS", 16),
    *("MODEL.RESNETS.RES2_OUT_CHANNELS", 32, "MODEL.RESNETS.WIDTH_PER_GROUP", 8),
    *(
        "MODEL.SEM_SEG_HEAD.NORM",
        "BN",
        "MODEL.SEM_SEG_HEAD.NUM_CLASSES",
        5,
        "MODEL.SEM_SEG_HEAD.CONVS_DIM",
        16,
    ),
    *("MODEL.SEM_SEG_HEAD.ASPP_CHANNELS", 16, "MODEL.SEM_SEG_HEAD.PROJECT_CHANNELS", [4, 8]),
    *("MODEL.SEM_SEG_HEAD.HEAD_CHANNELS", 12, "MODEL.INS_EMBED_HEAD.NORM", "BN"),
    *("MODEL.INS_EMBED_HEAD.CONVS_DIM", 8, "MODEL.INS_EMBED_HEAD.ASPP_CHANNELS", 16),
    *("MODEL.INS_EMBED_HEAD.PROJECT_CHANNELS", [4, 8], "MODEL.INS_EMBED_HEAD.HEAD_CHANNELS", 6),
    *("MODEL.PANOPTIC_DEEPLAB.STUFF_AREA", 4),
]


def config(name: str, *options: Any) -> CfgNode:
    cfg = get_cfg()
    panoptic_deeplab.add_panoptic_deeplab_config(cfg)
    cfg.merge_from_file(str(CITYSCAPES / name))
    cfg.merge_from_list([*SMALL, *options])
    return cfg


def scene(height: int = 60, width: int = 90) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """Two stuff regions, four things of which one is a crowd, pixels of no segment, a segment without pixels."""
    panoptic = np.full((height, width), 70000, np.int32)
    panoptic[height // 2 :] = 5
    for k, (top, left, h, w) in enumerate(
        [(4, 6, 20, 14), (30, 40, 9, 33), (8, 60, 30, 12), (45, 3, 10, 10)]
    ):
        panoptic[top : top + h, left : left + w] = 1000 + k
    panoptic[:3, :9] = 0
    info = [
        {"id": 70000, "category_id": 0},
        {"id": 5, "category_id": 2, "iscrowd": 0},
        {"id": 1000, "category_id": 3, "iscrowd": 0},
        {"id": 1001, "category_id": 4, "iscrowd": 0},
        {"id": 1002, "category_id": 3, "iscrowd": 1},
        {"id": 1003, "category_id": 3, "iscrowd": 0},
        {"id": 1004, "category_id": 3, "iscrowd": 0},
    ]
    return panoptic, info


def record_on_disk(folder: Path) -> dict[str, Any]:
    panoptic, info = scene()
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (60, 90, 3), np.uint8)).save(folder / "image.png")
    rgb = np.stack([panoptic & 255, panoptic >> 8 & 255, panoptic >> 16], axis=-1).astype(np.uint8)
    Image.fromarray(rgb).save(folder / "panoptic.png")
    return {
        "file_name": str(folder / "image.png"),
        "pan_seg_file_name": str(folder / "panoptic.png"),
        "segments_info": info,
        "image_id": 7,
    }
