"""Weights that were published for the projects' configs, and what their pages say about them."""

from .published import Figures

__all__ = ["PROJECT_FIGURES", "PROJECT_WEIGHTS"]

_SERVER = "https://dl.fbaipublicfiles.com/"
_MASKDINO = "https://github.com/IDEA-Research/detrex-storage/releases/download/maskdino-v0.1.0"

PROJECT_WEIGHTS: dict[str, str] = {}
"""Config (``PROJECT/configs/…`` without extension) -> address."""

PROJECT_FIGURES: dict[str, Figures] = {}
"""The same configs -> figures as printed; their pages differ in batch sizes and GPUs."""


def _add(project: str, root: str, other: str, rows: list[tuple[str, str, tuple[float | None, ...]]]) -> None:
    """Enter rows of (config, file, (train s per step, test s per image, GB, box AP, other AP)).

    The file is below a folder of the config's name, or below ``root`` if it starts with a slash; ``root`` is an address,
    or a folder of the server of Detectron2. Times of training
    that are printed for an image instead of a step are left out.
    """
    for name, file, (train, infer, memory, box, ap) in rows:
        key = f"{project}/configs/{name}"
        folder = "" if file.startswith("/") else f"/{name}/"
        server = "" if "://" in root else _SERVER
        PROJECT_WEIGHTS[key] = f"{server}{root}{folder}{file}"
        PROJECT_FIGURES[key] = Figures(box, ap, other, train, infer, memory)


# fmt: off
# Of several files for one config, the one that this config trains: same pre-training, own trainer.
_add("DINO", "https://github.com/IDEA-Research/detrex-storage/releases/download", "", [
    ("dino/dino-resnet/dino_r50_4scale_12ep_better_hyper", "/v0.4.0/dino_r50_4scale_12ep_backbone_2e-5_class_weight_2.0_300dn.pth", (None, None, None, 50.0, None)),
    ("dino/dino-resnet/dino_r50_4scale_12ep", "/v0.2.0/dino_r50_4scale_12ep_49_2AP.pth", (None, None, None, 49.2, None)),
    ("dino/dino-resnet/dino_r50_5scale_12ep", "/v0.2.1/dino_r50_5scale_12ep.pth", (None, None, None, 49.6, None)),
    ("dino/dino-resnet/dino_r50_4scale_12ep_300dn", "/v0.2.0/dino_r50_4scale_12ep_300dn.pth", (None, None, None, 49.5, None)),
    ("dino/dino-resnet/dino_r50_4scale_24ep", "/v0.1.1/dino_r50_4scale_24ep.pth", (None, None, None, 50.6, None)),
    ("dino/dino-resnet/dino_r101_4scale_12ep", "/v0.1.1/dino_r101_4scale_12ep.pth", (None, None, None, 50.0, None)),
    ("dino/dino-swin/dino_swin_tiny_224_4scale_12ep", "/v0.1.1/dino_swin_tiny_224_22kto1k_finetune_4scale_12ep.pth", (None, None, None, 52.5, None)),
    ("dino/dino-swin/dino_swin_small_224_4scale_12ep", "/v0.1.1/dino_swin_small_224_4scale_12ep.pth", (None, None, None, 53.0, None)),
    ("dino/dino-swin/dino_swin_base_384_4scale_12ep", "/v0.1.1/dino_swin_base_384_4scale_12ep.pth", (None, None, None, 55.8, None)),
    ("dino/dino-swin/dino_swin_large_224_4scale_12ep", "/v0.1.1/dino_swin_large_224_4scale_12ep.pth", (None, None, None, 56.9, None)),
    ("dino/dino-swin/dino_swin_large_384_4scale_12ep", "/v0.1.1/dino_swin_large_4scale_12ep.pth", (None, None, None, 56.9, None)),
    ("dino/dino-swin/dino_swin_large_384_5scale_12ep", "/v0.2.1/dino_swin_large_384_5scale_12ep.pth", (None, None, None, 57.5, None)),
    ("dino/dino-swin/dino_swin_large_384_4scale_36ep", "/v0.2.0/dino_swin_large_384_4scale_36ep.pth", (None, None, None, 58.1, None)),
    ("dino/dino-swin/dino_swin_large_384_5scale_36ep", "/v0.2.1/dino_swin_large_384_5scale_36ep.pth", (None, None, None, 58.5, None)),
    ("dino/dino-vitdet/dino_vitdet_base_4scale_12ep", "/v0.2.1/dino_vitdet_4scale_12ep.pth", (None, None, None, 50.2, None)),
    ("dino/dino-vitdet/dino_vitdet_base_4scale_50ep", "/v0.2.1/dino_vitdet_base_4scale_50ep.pth", (None, None, None, 55.0, None)),
    ("dino/dino-vitdet/dino_vitdet_large_4scale_12ep", "/v0.2.1/dino_vitdet_large_4scale_12ep.pth", (None, None, None, 52.9, None)),
    ("dino/dino-vitdet/dino_vitdet_large_4scale_50ep", "/v0.2.1/dino_vitdet_large_4scale_50ep.pth", (None, None, None, 57.5, None)),
    ("dino/dino-convnext/dino_convnext_tiny_384_4scale_12ep", "/v0.4.0/dino_convnext_tiny_384_4scale_12ep.pth", (None, None, None, 52.4, None)),
    ("dino/dino-convnext/dino_convnext_small_384_4scale_12ep", "/v0.4.0/dino_convnext_small_384_4scale_12ep.pth", (None, None, None, 54.2, None)),
    ("dino/dino-convnext/dino_convnext_base_384_4scale_12ep", "/v0.4.0/dino_convnext_base_384_4scale_12ep.pth", (None, None, None, 55.1, None)),
    ("dino/dino-convnext/dino_convnext_large_384_4scale_12ep", "/v0.4.0/dino_convnext_large_384_4scale_12ep.pth", (None, None, None, 55.5, None)),
    ("deformable_detr/deformable_detr_r50_50ep", "/v0.4.0/deformable_detr_r50_50ep_backbone_1e-5_class_weight_2.0.pth", (None, None, None, 44.9, None)),
    ("deformable_detr/deformable_detr_r50_with_box_refinement_50ep", "/v0.1.1/deformable_detr_with_box_refinement_50ep_new.pth", (None, None, None, 47.0, None)),
    ("deformable_detr/deformable_detr_r50_two_stage_50ep", "/v0.1.1/deformable_detr_r50_two_stage_50ep_new.pth", (None, None, None, 48.2, None)),
])
_add("EVA-02", "https://huggingface.co/Yuxin-CV/EVA-02/resolve/main/eva02/det", "mask", [
    ("eva2_mim_to_coco/eva2_coco_cascade_mask_rcnn_vitdet_b_4attn_1024_lrd0p7", "/eva02_B_coco_bsl.pth", (None, None, None, 55.5, 47.1)),
    ("eva2_mim_to_coco/eva2_coco_cascade_mask_rcnn_vitdet_l_4attn_1024_lrd0p8", "/eva02_L_coco_bsl.pth", (None, None, None, 59.2, 50.8)),
    ("eva2_mim_to_coco/eva2_coco_cascade_mask_rcnn_vitdet_b_6attn_win32_1536_lrd0p7", "/eva02_B_coco_sys.pth", (None, None, None, 58.9, 50.7)),
    ("eva2_mim_to_coco/eva2_coco_cascade_mask_rcnn_vitdet_l_8attn_win32_1536_lrd0p8", "/eva02_L_coco_sys.pth", (None, None, None, 62.3, 53.8)),
    ("eva2_mim_to_lvis/eva2_lvis_cascade_mask_rcnn_vitdet_b_4attn_1024_lrd0p7", "/eva02_B_lvis_bsl.pth", (None, None, None, 47.1, 41.4)),
    ("eva2_mim_to_lvis/eva2_lvis_cascade_mask_rcnn_vitdet_l_4attn_1024_lrd0p8", "/eva02_L_lvis_bsl.pth", (None, None, None, 55.3, 48.6)),
    ("eva2_mim_to_lvis/eva2_lvis_cascade_mask_rcnn_vitdet_l_8attn_win32_1536_lrd0p8", "/eva02_L_lvis_sys.pth", (None, None, None, 60.1, 53.5)),
    ("eva2_o365/eva2_o365_cascade_mask_rcnn_vitdet_l_8attn_1536_lrd0p8", "/eva02_L_m38m_to_o365.pth", (None, None, None, None, None)),
    ("eva2_o365_to_coco/eva2_o365_to_coco_cascade_mask_rcnn_vitdet_l_8attn_1536_lrd0p8", "/eva02_L_coco_det_sys_o365.pth", (None, None, None, 64.1, 54.3)),
    ("eva2_o365_to_lvis/eva2_o365_to_lvis_cascade_mask_rcnn_vitdet_l_8attn_1536_lrd0p8", "/eva02_L_lvis_sys_o365.pth", (None, None, None, 65.2, 57.3)),
])
_add("PointRend", "detectron2/PointRend", "mask", [
    ("InstanceSegmentation/pointrend_rcnn_R_50_FPN_1x_coco", "164254221/model_final_736f5a.pkl", (None, None, None, None, 36.2)),
    ("InstanceSegmentation/pointrend_rcnn_R_50_FPN_3x_coco", "164955410/model_final_edd263.pkl", (None, None, None, None, 38.3)),
    ("InstanceSegmentation/pointrend_rcnn_R_101_FPN_3x_coco", "28119983/model_final_3f4d2a.pkl", (None, None, None, None, 40.1)),
    ("InstanceSegmentation/pointrend_rcnn_X_101_32x8d_FPN_3x_coco", "28119989/model_final_ba17b9.pkl", (None, None, None, None, 41.1)),
    ("InstanceSegmentation/pointrend_rcnn_R_50_FPN_1x_cityscapes", "164255101/model_final_115bfb.pkl", (None, None, None, None, 35.9)),
])
_add("PointRend", "detectron2/PointRend", "mIoU", [
    ("SemanticSegmentation/pointrend_semantic_R_101_FPN_1x_cityscapes", "202576688/model_final_cf6ac1.pkl", (None, None, None, None, 78.9)),
])
_add("DeepLab", "detectron2/DeepLab", "mIoU", [
    ("Cityscapes-SemanticSegmentation/deeplab_v3_R_103_os16_mg124_poly_90k_bs16", "28041665/model_final_0dff1b.pkl", (None, None, None, None, 78.5)),
    ("Cityscapes-SemanticSegmentation/deeplab_v3_plus_R_103_os16_mg124_poly_90k_bs16", "28054032/model_final_a8a355.pkl", (None, None, None, None, 80.0)),
])
_add("Panoptic-DeepLab", "detectron2/PanopticDeepLab", "PQ", [
    ("Cityscapes-PanopticSegmentation/panoptic_deeplab_R_52_os16_mg124_poly_90k_bs32_crop_512_1024", "/Cityscapes-PanopticSegmentation/panoptic_deeplab_R_52_os16_mg124_poly_90k_bs32/model_final_bd324a.pkl", (None, None, None, None, 60.3)),
    ("Cityscapes-PanopticSegmentation/panoptic_deeplab_R_52_os16_mg124_poly_90k_bs32_crop_512_1024_dsconv", "model_final_23d03a.pkl", (None, None, None, None, 60.3)),
    ("COCO-PanopticSegmentation/panoptic_deeplab_R_52_os16_mg124_poly_200k_bs64_crop_640_640_coco_dsconv", "model_final_5e6da2.pkl", (None, None, None, 18.6, 35.5)),
])
_add("TridentNet", "detectron2/TridentNet", "", [
    ("tridentnet_fast_R_50_C4_1x", "148572687/model_final_756cda.pkl", (None, None, None, 38.0, None)),
    ("tridentnet_fast_R_50_C4_3x", "148572287/model_final_e1027c.pkl", (None, None, None, 40.6, None)),
    ("tridentnet_fast_R_101_C4_3x", "148572198/model_final_164568.pkl", (None, None, None, 43.6, None)),
])
_add("TensorMask", "detectron2/TensorMask", "mask", [
    ("tensormask_R_50_FPN_1x", "152549419/model_final_8f325c.pkl", (None, None, None, 37.6, 32.4)),
    ("tensormask_R_50_FPN_6x", "153538791/model_final_e8df31.pkl", (None, None, None, 41.4, 35.8)),
])
_add("ViTDet", "detectron2/ViTDet", "mask", [
    ("COCO/mask_rcnn_vitdet_b_100ep", "/COCO/mask_rcnn_vitdet_b/f325346929/model_final_61ccd1.pkl", (None, 0.079, 10.9, 51.6, 45.9)),
    ("COCO/mask_rcnn_vitdet_l_100ep", "/COCO/mask_rcnn_vitdet_l/f325599698/model_final_6146ed.pkl", (None, 0.125, 20.9, 55.5, 49.2)),
    ("COCO/mask_rcnn_vitdet_h_75ep", "/COCO/mask_rcnn_vitdet_h/f329145471/model_final_7224f1.pkl", (None, 0.178, 31.5, 56.7, 50.2)),
    ("COCO/cascade_mask_rcnn_swin_b_in21k_50ep", "/COCO/cascade_mask_rcnn_swin_b_in21k/f342979038/model_final_246a82.pkl", (None, 0.077, 8.7, 53.9, 46.2)),
    ("COCO/cascade_mask_rcnn_swin_l_in21k_50ep", "/COCO/cascade_mask_rcnn_swin_l_in21k/f342979186/model_final_7c897e.pkl", (None, 0.097, 12.6, 55.0, 47.2)),
    ("COCO/cascade_mask_rcnn_mvitv2_b_in21k_100ep", "/COCO/cascade_mask_rcnn_mvitv2_b_in21k/f325820315/model_final_8c3da3.pkl", (None, 0.09, 8.9, 55.6, 48.1)),
    ("COCO/cascade_mask_rcnn_mvitv2_l_in21k_50ep", "/COCO/cascade_mask_rcnn_mvitv2_l_in21k/f325607715/model_final_2141b0.pkl", (None, 0.157, 19.7, 55.7, 48.3)),
    ("COCO/cascade_mask_rcnn_mvitv2_h_in21k_36ep", "/COCO/cascade_mask_rcnn_mvitv2_h_in21k/f326187358/model_final_2234d7.pkl", (None, 0.285, 18.4, 55.9, 48.3)),
    ("COCO/cascade_mask_rcnn_vitdet_b_100ep", "/COCO/cascade_mask_rcnn_vitdet_b/f325358525/model_final_435fa9.pkl", (None, 0.089, 12.3, 54.0, 46.7)),
    ("COCO/cascade_mask_rcnn_vitdet_l_100ep", "/COCO/cascade_mask_rcnn_vitdet_l/f328021305/model_final_1a9f28.pkl", (None, 0.142, 22.3, 57.6, 50.0)),
    ("COCO/cascade_mask_rcnn_vitdet_h_75ep", "/COCO/cascade_mask_rcnn_vitdet_h/f328730692/model_final_f05665.pkl", (None, 0.196, 32.9, 58.7, 51.0)),
    ("LVIS/mask_rcnn_vitdet_b_100ep", "/LVIS/mask_rcnn_vitdet_b/329225748/model_final_5251c5.pkl", (None, 0.085, 14.4, 40.2, 38.2)),
    ("LVIS/mask_rcnn_vitdet_l_100ep", "/LVIS/mask_rcnn_vitdet_l/329211570/model_final_021b3a.pkl", (None, 0.137, 24.7, 46.1, 43.6)),
    ("LVIS/mask_rcnn_vitdet_h_100ep", "/LVIS/mask_rcnn_vitdet_h/332434656/model_final_866730.pkl", (None, 0.186, 35.3, 49.1, 46.0)),
    ("LVIS/cascade_mask_rcnn_swin_b_in21k_50ep", "/LVIS/cascade_mask_rcnn_swin_b_in21k/329222304/model_final_a3a348.pkl", (None, 0.09, 11.5, 44.0, 39.6)),
    ("LVIS/cascade_mask_rcnn_swin_l_in21k_50ep", "/LVIS/cascade_mask_rcnn_swin_l_in21k/329222724/model_final_2b94db.pkl", (None, 0.105, 13.8, 46.0, 41.4)),
    ("LVIS/cascade_mask_rcnn_mvitv2_b_in21k_100ep", "/LVIS/cascade_mask_rcnn_mvitv2_b_in21k/329477206/model_final_a00567.pkl", (None, 0.1, 11.8, 46.3, 42.0)),
    ("LVIS/cascade_mask_rcnn_mvitv2_l_in21k_50ep", "/LVIS/cascade_mask_rcnn_mvitv2_l_in21k/329661552/model_final_7838a5.pkl", (None, 0.172, 21.0, 49.4, 44.2)),
    ("LVIS/cascade_mask_rcnn_mvitv2_h_in21k_50ep", "/LVIS/cascade_mask_rcnn_mvitv2_h_in21k/330445165/model_final_ad4220.pkl", (None, 0.29, 21.3, 49.5, 44.1)),
    ("LVIS/cascade_mask_rcnn_vitdet_b_100ep", "/LVIS/cascade_mask_rcnn_vitdet_b/329226874/model_final_df306f.pkl", (None, 0.099, 15.2, 43.0, 38.9)),
    ("LVIS/cascade_mask_rcnn_vitdet_l_100ep", "/LVIS/cascade_mask_rcnn_vitdet_l/329042206/model_final_3e81c2.pkl", (None, 0.15, 24.9, 49.2, 44.5)),
    ("LVIS/cascade_mask_rcnn_vitdet_h_100ep", "/LVIS/cascade_mask_rcnn_vitdet_h/332552778/model_final_11bbb7.pkl", (None, 0.204, 35.5, 51.5, 46.6)),
])
_add("MViTv2", "detectron2/MViTv2", "mask", [
    ("mask_rcnn_mvitv2_t_3x", "f307611773/model_final_1a1c30.pkl", (None, None, None, 48.3, 43.8)),
    ("cascade_mask_rcnn_mvitv2_t_3x", "f308344828/model_final_c6967a.pkl", (None, None, None, 52.2, 45.0)),
    ("cascade_mask_rcnn_mvitv2_s_3x", "f308344647/model_final_279baf.pkl", (None, None, None, 53.2, 46.0)),
    ("cascade_mask_rcnn_mvitv2_b_3x", "f308109448/model_final_421a91.pkl", (None, None, None, 54.1, 46.7)),
    ("cascade_mask_rcnn_mvitv2_b_in21k_3x", "/cascade_mask_rcnn_mvitv2_b_in12k_3x/f309003202/model_final_be5168.pkl", (None, None, None, 54.9, 47.4)),
    ("cascade_mask_rcnn_mvitv2_l_in21k_lsj_50ep", "/cascade_mask_rcnn_mvitv2_l_in12k_lsj_50ep/f308099658/model_final_c41c5a.pkl", (None, None, None, 55.8, 48.3)),
    ("cascade_mask_rcnn_mvitv2_h_in21k_lsj_3x", "/cascade_mask_rcnn_mvitv2_h_in12k_lsj_3x/f309013744/model_final_30d36b.pkl", (None, None, None, 56.1, 48.5)),
])
_add("DensePose", "densepose", "GPS", [
    ("densepose_rcnn_R_50_FPN_s1x_legacy", "164832157/model_final_d366fa.pkl", (0.307, 0.051, 3.2, 58.1, 52.1)),
    ("densepose_rcnn_R_101_FPN_s1x_legacy", "164832182/model_final_10af0e.pkl", (0.39, 0.063, 4.3, 59.5, 53.2)),
    ("densepose_rcnn_R_50_FPN_s1x", "165712039/model_final_162be9.pkl", (0.359, 0.066, 4.5, 61.2, 63.7)),
    ("densepose_rcnn_R_101_FPN_s1x", "165712084/model_final_c6ab63.pkl", (0.428, 0.079, 5.8, 62.3, 64.5)),
    ("densepose_rcnn_R_50_FPN_DL_s1x", "165712097/model_final_0ed407.pkl", (0.392, 0.07, 6.7, 61.1, 65.6)),
    ("densepose_rcnn_R_101_FPN_DL_s1x", "165712116/model_final_844d15.pkl", (0.478, 0.083, 7.0, 62.3, 66.3)),
    ("densepose_rcnn_R_50_FPN_WC1_s1x", "173862049/model_final_289019.pkl", (0.353, 0.064, 4.6, 60.5, 64.2)),
    ("densepose_rcnn_R_50_FPN_WC2_s1x", "173861455/model_final_3abe14.pkl", (0.364, 0.066, 4.8, 60.7, 64.2)),
    ("densepose_rcnn_R_50_FPN_DL_WC1_s1x", "173067973/model_final_b1e525.pkl", (0.397, 0.068, 6.7, 61.1, 65.8)),
    ("densepose_rcnn_R_50_FPN_DL_WC2_s1x", "173859335/model_final_60fed4.pkl", (0.41, 0.07, 6.8, 60.8, 65.6)),
    ("densepose_rcnn_R_101_FPN_WC1_s1x", "171402969/model_final_9e47f0.pkl", (0.435, 0.076, 5.7, 62.5, 64.9)),
    ("densepose_rcnn_R_101_FPN_WC2_s1x", "173860702/model_final_5ea023.pkl", (0.45, 0.078, 5.7, 62.3, 64.8)),
    ("densepose_rcnn_R_101_FPN_DL_WC1_s1x", "173858525/model_final_f359f3.pkl", (0.479, 0.081, 7.9, 62.0, 66.2)),
    ("densepose_rcnn_R_101_FPN_DL_WC2_s1x", "173294801/model_final_6e1ed1.pkl", (0.491, 0.082, 7.6, 61.7, 65.9)),
    ("densepose_rcnn_R_50_FPN_WC1M_s1x", "217144516/model_final_48a9d9.pkl", (0.381, 0.066, 4.8, 60.6, 64.0)),
    ("densepose_rcnn_R_50_FPN_WC2M_s1x", "216245640/model_final_d79ada.pkl", (0.342, 0.068, 5.0, 60.7, 64.2)),
    ("densepose_rcnn_R_50_FPN_DL_WC1M_s1x", "216245703/model_final_61971e.pkl", (0.371, 0.068, 6.0, 60.7, 65.2)),
    ("densepose_rcnn_R_50_FPN_DL_WC2M_s1x", "216245758/model_final_7bfb43.pkl", (0.385, 0.071, 6.1, 60.8, 65.0)),
    ("densepose_rcnn_R_101_FPN_WC1M_s1x", "216453687/model_final_0a7287.pkl", (0.423, 0.079, 5.9, 62.0, 64.8)),
    ("densepose_rcnn_R_101_FPN_WC2M_s1x", "216245682/model_final_e354d9.pkl", (0.436, 0.08, 5.9, 62.5, 64.5)),
    ("densepose_rcnn_R_101_FPN_DL_WC1M_s1x", "216245771/model_final_0ebeb3.pkl", (0.453, 0.079, 6.8, 62.0, 66.4)),
    ("densepose_rcnn_R_101_FPN_DL_WC2M_s1x", "216245790/model_final_de6e7a.pkl", (0.464, 0.08, 6.9, 61.9, 66.1)),
    ("evolution/densepose_R_50_FPN_DL_WC1M_3x_Atop10P_CA", "217578784/model_final_9fe1cc.pkl", (0.522, 0.073, 9.7, 61.3, 20.0)),
    ("evolution/densepose_R_50_FPN_DL_WC1M_3x_Atop10P_CA_B_uniform", "256453729/model_final_241ff5.pkl", (1.939, 0.072, 10.1, 60.9, 21.5)),
    ("evolution/densepose_R_50_FPN_DL_WC1M_3x_Atop10P_CA_B_uv", "256452095/model_final_d689e2.pkl", (1.985, 0.072, 9.6, 61.4, 22.2)),
    ("evolution/densepose_R_50_FPN_DL_WC1M_3x_Atop10P_CA_B_finesegm", "256452819/model_final_cb4ac6.pkl", (2.047, 0.072, 10.3, 60.9, 20.7)),
    ("evolution/densepose_R_50_FPN_DL_WC1M_3x_Atop10P_CA_B_coarsesegm", "256455697/model_final_a6a4bf.pkl", (1.83, 0.07, 9.6, 61.3, 21.5)),
    ("cse/densepose_rcnn_R_50_FPN_s1x", "251155172/model_final_c4ea5f.pkl", (0.349, 0.06, 6.3, 61.1, 64.4)),
    ("cse/densepose_rcnn_R_101_FPN_s1x", "251155500/model_final_5c995f.pkl", (0.461, 0.071, 7.4, 62.3, 64.7)),
    ("cse/densepose_rcnn_R_50_FPN_DL_s1x", "251156349/model_final_e96218.pkl", (0.399, 0.061, 7.0, 60.8, 65.5)),
    ("cse/densepose_rcnn_R_101_FPN_DL_s1x", "251156606/model_final_b236ce.pkl", (0.504, 0.074, 8.3, 61.5, 65.6)),
    ("cse/densepose_rcnn_R_50_FPN_soft_s1x", "250533982/model_final_2c4512.pkl", (0.357, 0.057, 9.7, 61.3, 64.3)),
    ("cse/densepose_rcnn_R_101_FPN_soft_s1x", "250712522/model_final_4637da.pkl", (0.464, 0.071, 10.5, 62.1, 64.5)),
    ("cse/densepose_rcnn_R_50_FPN_DL_soft_s1x", "250713703/model_final_9199f5.pkl", (0.427, 0.062, 11.3, 60.8, 66.1)),
    ("cse/densepose_rcnn_R_101_FPN_DL_soft_s1x", "250713061/model_final_1d3314.pkl", (0.483, 0.071, 12.2, 61.5, 66.2)),
    ("cse/densepose_rcnn_R_50_FPN_soft_chimps_finetune_4k", "253146869/model_final_52f649.pkl", (0.569, 0.051, 4.7, 62.0, 32.2)),
    ("cse/densepose_rcnn_R_50_FPN_soft_animals_finetune_4k", "253145793/model_final_8f8ba2.pkl", (0.381, 0.061, 7.3, 44.9, 21.3)),
    ("cse/densepose_rcnn_R_50_FPN_soft_animals_CA_finetune_4k", "253498611/model_final_6d69b7.pkl", (0.412, 0.059, 7.1, 53.4, 25.4)),
    ("cse/densepose_rcnn_R_50_FPN_soft_animals_I0_finetune_16k", "270727112/model_final_421d28.pkl", (0.386, 0.058, 8.4, 54.2, 29.0)),
    ("cse/densepose_rcnn_R_50_FPN_soft_animals_I0_finetune_m2m_16k", "270982215/model_final_6fe5f4.pkl", (0.508, 0.056, 12.2, 54.1, 28.6)),
    ("cse/densepose_rcnn_R_50_FPN_soft_animals_I0_finetune_i2m_16k", "270727461/model_final_8c9d99.pkl", (0.483, 0.056, 9.7, 54.0, 28.9)),
])
# Licence of these weights: CC BY-NC 4.0.
_add("Mask2Former", "maskformer/mask2former", "PQ", [
    ("coco/panoptic-segmentation/maskformer2_R50_bs16_50ep", "/coco/panoptic/maskformer2_R50_bs16_50ep/model_final_94dc52.pkl", (None, None, None, None, 51.9)),
    ("coco/panoptic-segmentation/maskformer2_R101_bs16_50ep", "/coco/panoptic/maskformer2_R101_bs16_50ep/model_final_b807bd.pkl", (None, None, None, None, 52.6)),
    ("coco/panoptic-segmentation/swin/maskformer2_swin_tiny_bs16_50ep", "/coco/panoptic/maskformer2_swin_tiny_bs16_50ep/model_final_9fd0ae.pkl", (None, None, None, None, 53.2)),
    ("coco/panoptic-segmentation/swin/maskformer2_swin_small_bs16_50ep", "/coco/panoptic/maskformer2_swin_small_bs16_50ep/model_final_a407fd.pkl", (None, None, None, None, 54.6)),
    ("coco/panoptic-segmentation/swin/maskformer2_swin_base_384_bs16_50ep", "/coco/panoptic/maskformer2_swin_base_384_bs16_50ep/model_final_9d7f02.pkl", (None, None, None, None, 55.1)),
    ("coco/panoptic-segmentation/swin/maskformer2_swin_base_IN21k_384_bs16_50ep", "/coco/panoptic/maskformer2_swin_base_IN21k_384_bs16_50ep/model_final_54b88a.pkl", (None, None, None, None, 56.4)),
    ("coco/panoptic-segmentation/swin/maskformer2_swin_large_IN21k_384_bs16_100ep", "/coco/panoptic/maskformer2_swin_large_IN21k_384_bs16_100ep/model_final_f07440.pkl", (None, None, None, None, 57.8)),
    ("cityscapes/panoptic-segmentation/maskformer2_R50_bs16_90k", "/cityscapes/panoptic/maskformer2_R50_bs16_90k/model_final_4ab90c.pkl", (None, None, None, None, 62.1)),
    ("cityscapes/panoptic-segmentation/maskformer2_R101_bs16_90k", "/cityscapes/panoptic/maskformer2_R101_bs16_90k/model_final_04d286.pkl", (None, None, None, None, 62.4)),
    ("cityscapes/panoptic-segmentation/swin/maskformer2_swin_tiny_bs16_90k", "/cityscapes/panoptic/maskformer2_swin_tiny_bs16_90k/model_final_ceba0f.pkl", (None, None, None, None, 63.9)),
    ("cityscapes/panoptic-segmentation/swin/maskformer2_swin_small_bs16_90k", "/cityscapes/panoptic/maskformer2_swin_small_bs16_90k/model_final_23efb7.pkl", (None, None, None, None, 64.8)),
    ("cityscapes/panoptic-segmentation/swin/maskformer2_swin_base_IN21k_384_bs16_90k", "/cityscapes/panoptic/maskformer2_swin_base_IN21k_384_bs16_90k/model_final_fa840f.pkl", (None, None, None, None, 66.1)),
    ("cityscapes/panoptic-segmentation/swin/maskformer2_swin_large_IN21k_384_bs16_90k", "/cityscapes/panoptic/maskformer2_swin_large_IN21k_384_bs16_90k/model_final_064788.pkl", (None, None, None, None, 66.6)),
    ("ade20k/panoptic-segmentation/maskformer2_R50_bs16_160k", "/ade20k/panoptic/maskformer2_R50_bs16_160k/model_final_5c90d4.pkl", (None, None, None, None, 39.7)),
    ("ade20k/panoptic-segmentation/swin/maskformer2_swin_large_IN21k_384_bs16_160k", "/ade20k/panoptic/maskformer2_swin_large_IN21k_384_bs16_160k/model_final_e0c58e.pkl", (None, None, None, None, 48.1)),
    ("mapillary-vistas/panoptic-segmentation/maskformer_R50_bs16_300k", "/mapillary_vistas/panoptic/maskformer_R50_bs16_300k/model_final_4e9874.pkl", (None, None, None, None, 36.3)),
    ("mapillary-vistas/panoptic-segmentation/swin/maskformer2_swin_large_IN21k_384_bs16_300k", "/mapillary_vistas/panoptic/maskformer2_swin_large_IN21k_384_bs16_300k/model_final_132c71.pkl", (None, None, None, None, 45.5)),
])
_add("Mask2Former", "maskformer/mask2former", "mask", [
    ("coco/instance-segmentation/maskformer2_R50_bs16_50ep", "/coco/instance/maskformer2_R50_bs16_50ep/model_final_3c8ec9.pkl", (None, None, None, None, 43.7)),
    ("coco/instance-segmentation/maskformer2_R101_bs16_50ep", "/coco/instance/maskformer2_R101_bs16_50ep/model_final_eba159.pkl", (None, None, None, None, 44.2)),
    ("coco/instance-segmentation/swin/maskformer2_swin_tiny_bs16_50ep", "/coco/instance/maskformer2_swin_tiny_bs16_50ep/model_final_86143f.pkl", (None, None, None, None, 45.0)),
    ("coco/instance-segmentation/swin/maskformer2_swin_small_bs16_50ep", "/coco/instance/maskformer2_swin_small_bs16_50ep/model_final_1e7f22.pkl", (None, None, None, None, 46.3)),
    ("coco/instance-segmentation/swin/maskformer2_swin_base_384_bs16_50ep", "/coco/instance/maskformer2_swin_base_384_bs16_50ep/model_final_f6e0f6.pkl", (None, None, None, None, 46.7)),
    ("coco/instance-segmentation/swin/maskformer2_swin_base_IN21k_384_bs16_50ep", "/coco/instance/maskformer2_swin_base_IN21k_384_bs16_50ep/model_final_83d103.pkl", (None, None, None, None, 48.1)),
    ("coco/instance-segmentation/swin/maskformer2_swin_large_IN21k_384_bs16_100ep", "/coco/instance/maskformer2_swin_large_IN21k_384_bs16_100ep/model_final_e5f453.pkl", (None, None, None, None, 50.1)),
    ("cityscapes/instance-segmentation/maskformer2_R50_bs16_90k", "/cityscapes/instance/maskformer2_R50_bs16_90k/model_final_01a8ed.pkl", (None, None, None, None, 37.4)),
    ("cityscapes/instance-segmentation/maskformer2_R101_bs16_90k", "/cityscapes/instance/maskformer2_R101_bs16_90k/model_final_c2b8c8.pkl", (None, None, None, None, 38.5)),
    ("cityscapes/instance-segmentation/swin/maskformer2_swin_tiny_bs16_90k", "/cityscapes/instance/maskformer2_swin_tiny_bs16_90k/model_final_6a63f8.pkl", (None, None, None, None, 39.7)),
    ("cityscapes/instance-segmentation/swin/maskformer2_swin_small_bs16_90k", "/cityscapes/instance/maskformer2_swin_small_bs16_90k/model_final_974824.pkl", (None, None, None, None, 41.8)),
    ("cityscapes/instance-segmentation/swin/maskformer2_swin_base_IN21k_384_bs16_90k", "/cityscapes/instance/maskformer2_swin_base_IN21k_384_bs16_90k/model_final_7a3b6d.pkl", (None, None, None, None, 42.0)),
    ("cityscapes/instance-segmentation/swin/maskformer2_swin_large_IN21k_384_bs16_90k", "/cityscapes/instance/maskformer2_swin_large_IN21k_384_bs16_90k/model_final_dfa862.pkl", (None, None, None, None, 43.7)),
    ("ade20k/instance-segmentation/maskformer2_R50_bs16_160k", "/ade20k/instance/maskformer2_R50_bs16_160k/model_final_67e945.pkl", (None, None, None, None, 26.4)),
    ("ade20k/instance-segmentation/swin/maskformer2_swin_large_IN21k_384_bs16_160k", "/ade20k/instance/maskformer2_swin_large_IN21k_384_bs16_160k/model_final_92dae9.pkl", (None, None, None, None, 34.9)),
])
_add("Mask2Former", "maskformer/mask2former", "mIoU", [
    ("cityscapes/semantic-segmentation/maskformer2_R50_bs16_90k", "/cityscapes/semantic/maskformer2_R50_bs16_90k/model_final_cc1b1f.pkl", (None, None, None, None, 79.4)),
    ("cityscapes/semantic-segmentation/maskformer2_R101_bs16_90k", "/cityscapes/semantic/maskformer2_R101_bs16_90k/model_final_257ce8.pkl", (None, None, None, None, 80.1)),
    ("cityscapes/semantic-segmentation/swin/maskformer2_swin_tiny_bs16_90k", "/cityscapes/semantic/maskformer2_swin_tiny_bs16_90k/model_final_2d58d4.pkl", (None, None, None, None, 82.1)),
    ("cityscapes/semantic-segmentation/swin/maskformer2_swin_small_bs16_90k", "/cityscapes/semantic/maskformer2_swin_small_bs16_90k/model_final_fa26ae.pkl", (None, None, None, None, 82.6)),
    ("cityscapes/semantic-segmentation/swin/maskformer2_swin_base_IN21k_384_bs16_90k", "/cityscapes/semantic/maskformer2_swin_base_IN21k_384_bs16_90k/model_final_1c6b65.pkl", (None, None, None, None, 83.3)),
    ("cityscapes/semantic-segmentation/swin/maskformer2_swin_large_IN21k_384_bs16_90k", "/cityscapes/semantic/maskformer2_swin_large_IN21k_384_bs16_90k/model_final_17c1ee.pkl", (None, None, None, None, 83.3)),
    ("ade20k/semantic-segmentation/maskformer2_R50_bs16_160k", "/ade20k/semantic/maskformer2_R50_bs16_160k/model_final_500878.pkl", (None, None, None, None, 47.2)),
    ("ade20k/semantic-segmentation/maskformer2_R101_bs16_90k", "/ade20k/semantic/maskformer2_R101_bs16_90k/model_final_0d68be.pkl", (None, None, None, None, 47.8)),
    ("ade20k/semantic-segmentation/swin/maskformer2_swin_tiny_bs16_160k", "/ade20k/semantic/maskformer2_swin_tiny_bs16_160k/model_final_5274a6.pkl", (None, None, None, None, 47.7)),
    ("ade20k/semantic-segmentation/swin/maskformer2_swin_small_bs16_160k", "/ade20k/semantic/maskformer2_swin_small_bs16_160k/model_final_011c6d.pkl", (None, None, None, None, 51.3)),
    ("ade20k/semantic-segmentation/swin/maskformer2_swin_base_384_bs16_160k_res640", "/ade20k/semantic/maskformer2_swin_base_384_bs16_160k_res640/model_final_503e96.pkl", (None, None, None, None, 52.4)),
    ("ade20k/semantic-segmentation/swin/maskformer2_swin_base_IN21k_384_bs16_160k_res640", "/ade20k/semantic/maskformer2_swin_base_IN21k_384_bs16_160k_res640/model_final_7e47bf.pkl", (None, None, None, None, 53.9)),
    ("ade20k/semantic-segmentation/swin/maskformer2_swin_large_IN21k_384_bs16_160k_res640", "/ade20k/semantic/maskformer2_swin_large_IN21k_384_bs16_160k_res640/model_final_6b4a3a.pkl", (None, None, None, None, 56.1)),
    ("mapillary-vistas/semantic-segmentation/maskformer2_R50_bs16_300k", "/mapillary_vistas/semantic/maskformer_R50_bs16_300k/model_final_6c66d0.pkl", (None, None, None, None, 57.4)),
    ("mapillary-vistas/semantic-segmentation/swin/maskformer2_swin_large_IN21k_384_bs16_300k", "/mapillary_vistas/semantic/maskformer2_swin_large_IN21k_384_bs16_300k/model_final_90ee2d.pkl", (None, None, None, None, 63.2)),
])
# Licence of MaskDINO's code: Apache-2.0. Its page gives the model without mask enhancement the config of the one with
# it, and prints a mask AP of 48.8 above a box AP of 44.3 for the panoptic R50 model, which seem to be swapped; neither is
# here.
_add("MaskDINO", _MASKDINO, "mask", [
    ("coco/instance-segmentation/maskdino_R50_bs16_50ep_3s", "/maskdino_r50_50ep_300q_hid1024_3sd1_instance_maskenhanced_mask46.1ap_box51.5ap.pth", (None, None, None, 51.5, 46.1)),
    ("coco/instance-segmentation/maskdino_R50_bs16_50ep_3s_dowsample1_2048", "/maskdino_r50_50ep_300q_hid2048_3sd1_instance_maskenhanced_mask46.3ap_box51.7ap.pth", (None, None, None, 51.7, 46.3)),
    ("coco/instance-segmentation/swin/maskdino_R50_bs16_50ep_4s_dowsample1_2048_no_maskEnhance", "/maskdino_swinl_50ep_300q_hid2048_3sd1_instance_mask52.1ap_box58.3ap.pth", (None, None, None, 58.3, 52.1)),
    ("coco/instance-segmentation/swin/maskdino_R50_bs16_50ep_4s_dowsample1_2048", "/maskdino_swinl_50ep_300q_hid2048_3sd1_instance_maskenhanced_mask52.3ap_box59.0ap.pth", (None, None, None, 59.0, 52.3)),
])
_add("MaskDINO", _MASKDINO, "PQ", [
    ("coco/panoptic-segmentation/maskdino_R50_bs16_50ep_3s_dowsample1_2048", "/maskdino_r50_50ep_300q_hid2048_3sd1_panoptic_pq53.0.pth", (None, None, None, None, 53.0)),
    ("coco/panoptic-segmentation/swin/maskdino_R50_bs16_50ep_4s_dowsample1_2048", "/maskdino_swinl_50ep_300q_hid2048_3sd1_panoptic_58.3pq.pth", (None, None, None, 56.2, 58.3)),
])
_add("MaskDINO", _MASKDINO, "mIoU", [
    ("ade20k/semantic-segmentation/maskdino_R50_bs16_160k_steplr", "/maskdino_r50_50ep_100q_celoss_hid1024_3s_semantic_ade20k_48.7miou.pth", (None, None, None, None, 48.7)),
    ("cityscapes/semantic-segmentation/maskdino_R50_bs16_90k_steplr", "/maskdino_r50_50ep_100q_celoss_hid1024_3s_semantic_cityscapes_79.8miou.pth", (None, None, None, None, 79.8)),
])
# fmt: on
