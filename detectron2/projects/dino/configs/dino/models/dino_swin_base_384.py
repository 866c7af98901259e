"""DINO on Swin-B, pretrained with images of 384 pixels."""

from detectron2.config import LazyCall as L
from detectron2.modeling import SwinTransformer

from ...common.parts import neck
from .dino_r50 import model

model.backbone = L(SwinTransformer)(
    pretrain_img_size=384,
    embed_dim=128,
    depths=[2, 2, 18, 2],
    num_heads=[4, 8, 16, 32],
    window_size=12,
    out_indices=[1, 2, 3],
)
model.neck = neck(p1=256, p2=512, p3=1024)
