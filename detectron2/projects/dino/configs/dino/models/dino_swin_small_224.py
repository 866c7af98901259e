"""DINO on Swin-S, pretrained with images of 224 pixels."""

from detectron2.config import LazyCall as L
from detectron2.modeling import SwinTransformer

from ...common.parts import neck
from .dino_r50 import model

model.backbone = L(SwinTransformer)(
    pretrain_img_size=224,
    embed_dim=96,
    depths=[2, 2, 18, 2],
    num_heads=[3, 6, 12, 24],
    window_size=7,
    drop_path_rate=0.2,
    out_indices=[1, 2, 3],
)
model.neck = neck(p1=192, p2=384, p3=768)
