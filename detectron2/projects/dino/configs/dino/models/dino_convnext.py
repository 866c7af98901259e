"""DINO on ConvNeXt-L."""

from detectron2.config import LazyCall as L
from detectron2.projects.dino import ConvNeXt

from ...common.parts import neck
from .dino_r50 import model

model.backbone = L(ConvNeXt)(
    in_chans=3,
    depths=[3, 3, 27, 3],
    dims=[192, 384, 768, 1536],
    drop_path_rate=0.0,
    layer_scale_init_value=1.0,
    out_indices=[1, 2, 3],
)
model.neck = neck(p1=384, p2=768, p3=1536)
