"""Which golden cases of ``tests/parity`` have the architecture of a published checkpoint."""

COVERAGE: tuple[tuple[str, str], ...] = (
    (r"^EVA-02/", "mod_eva02_eval"),
    (r"^Mask2Former/.*/(instance|panoptic)-segmentation/\w+_R(50|101)_", r"mod_m2f_eval_r50_\1"),
    (r"^Mask2Former/.*/semantic-segmentation/\w+_swin_", "mod_m2f_eval_swin_t_semantic"),
    (r"^Mask2Former/.*/(instance|panoptic)-segmentation/", r"mod_m2f_eval_r50_\1 + mod_m2f_swin_backbone"),
    (r"^Mask2Former/", "mod_m2f_eval_swin_t_semantic + mod_m2f_eval_r50_panoptic"),
    (r"/(fast_rcnn|retinanet|keypoint_rcnn)", r"eval_\1_R_50_FPN"),
    (r"/(faster|mask)_rcnn.*_C4", r"eval_\1_rcnn_R_50_C4"),
    (r"/faster_rcnn.*_DC5", "eval_faster_rcnn_R_50_DC5"),
    (r"/faster_rcnn", "eval_faster_rcnn_R_50_FPN"),
    (r"/rpn", "eval_rpn_R_50 train_rpn_R_50_FPN"),
    (r"/panoptic_fpn.*cascade", "eval_panoptic_fpn_R_50 + eval_cascade_mask_rcnn_R_50_FPN + eval_mask_rcnn_R_50_FPN_dconv"),
    (r"/panoptic_fpn", "eval_panoptic_fpn_R_50"),
    (r"^PointRend/.*Semantic", "proj_pointrend_semantic_eval"),
    (r"^PointRend/", "proj_pointrend_rcnn_eval"),
    (r"^DeepLab/.*v3_plus", "proj_deeplab_v3plus"),
    (r"^DeepLab/", "proj_deeplab_v3"),
    (r"^Panoptic-DeepLab/", "proj_pandeeplab_eval"),
    (r"^TridentNet/", "proj_trident_eval"),
    (r"^TensorMask/", "proj_tensormask_eval"),
    (r"^DensePose/configs/cse/.*_FPN_soft", "proj_densepose_cse"),
    (r"^DensePose/configs/cse/", "proj_densepose_cse + proj_densepose_cse_losses proj_densepose_heads"),
    (r"^DensePose/.*_FPN_(DL_WC2M|WC1)_s1x", r"proj_densepose_R_50_FPN_\1"),
    (r"^DensePose/.*_WC", "proj_densepose_R_50_FPN_DL_WC2M + proj_densepose_R_50_FPN_WC1"),
    (r"^DensePose/.*_FPN(_DL|)_s1x(_legacy|)", r"proj_densepose_R_50_FPN\1\2"),
    (r"/cascade.*_(?:swin|mvit)", "backbone_swin backbone_mvit + eval_cascade_mask_rcnn_R_50_FPN"),
    (r"/mask_rcnn_mvitv2", "backbone_mvit + eval_mask_rcnn_lazy"),
    (r"/cascade.*_vitdet", "eval_mask_rcnn_vitdet_lazy + eval_cascade_mask_rcnn_R_50_FPN"),
    (r"/mask_rcnn_(vitdet|regnet)", r"eval_mask_rcnn_\1_lazy"),
    (r"^new_baselines/", "eval_mask_rcnn_lazy"),
    (r"/cascade.*_dconv", "eval_cascade_mask_rcnn_R_50_FPN + eval_mask_rcnn_R_50_FPN_dconv eval_mask_rcnn_R_50_FPN_gn"),
    (r"/cascade_mask_rcnn", "eval_cascade_mask_rcnn_R_50_FPN"),
    (r"/mask_rcnn.*_DC5", "eval_faster_rcnn_R_50_DC5 + eval_mask_rcnn_R_50_FPN"),
    (r"/(?:scratch_)?mask_rcnn.*?(_dconv|_gn|$)", r"eval_mask_rcnn_R_50_FPN\1"),
)  # fmt: skip
"""Patterns of names of checkpoints, and their cases; the first pattern that fits counts.

Where there is a case of training beside one of evaluation, it counts too. Cases with a plus cover parts only.
"""
