"""Keypoint R-CNN on a feature pyramid: persons and their 17 keypoints."""

from detectron2.config import LazyCall as L
from detectron2.layers import ShapeSpec
from detectron2.modeling.poolers import ROIPooler
from detectron2.modeling.roi_heads import KRCNNConvDeconvUpsampleHead

from .mask_rcnn_fpn import model

model.roi_heads.num_classes = 1

for name in ("mask_in_features", "mask_pooler", "mask_head"):
    del model.roi_heads[name]

model.roi_heads.keypoint_in_features = ["p2", "p3", "p4", "p5"]
model.roi_heads.keypoint_pooler = L(ROIPooler)(
    output_size=14,
    scales=[1.0 / 4, 1.0 / 8, 1.0 / 16, 1.0 / 32],
    sampling_ratio=0,
    pooler_type="ROIAlignV2",
)
model.roi_heads.keypoint_head = L(KRCNNConvDeconvUpsampleHead)(
    input_shape=ShapeSpec(channels=256, height=14, width=14),
    num_keypoints=17,
    conv_dims=[512] * 8,
    loss_normalizer="visible",
)

# 1000 proposals give slightly worse keypoints, and so does plain L1 for the boxes.
model.proposal_generator.post_nms_topk = [1500, 1000]
model.roi_heads.box_predictor.smooth_l1_beta = 0.5
