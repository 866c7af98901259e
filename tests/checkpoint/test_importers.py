"""Weights of torchvision and MMDetection in our models."""

import pytest
import torch

from detectron2.checkpoint import (
    DetectionCheckpointer,
    convert_mmdet_weights,
    convert_torchvision_weights,
    match_torchvision_anchors,
)

TORCHVISION = [
    "MODEL.RESNETS.STRIDE_IN_1X1", False, "INPUT.FORMAT", "RGB", "MODEL.PIXEL_MEAN", [123.675, 116.28, 103.53],
    "MODEL.PIXEL_STD", [58.395, 57.12, 57.375], "MODEL.ROI_BOX_HEAD.POOLER_TYPE", "ROIAlign",
    "MODEL.ROI_BOX_HEAD.POOLER_SAMPLING_RATIO", 2, "MODEL.ROI_MASK_HEAD.POOLER_TYPE", "ROIAlign",
    "MODEL.ROI_MASK_HEAD.POOLER_SAMPLING_RATIO", 2, "MODEL.ROI_HEADS.NUM_CLASSES", 5,
]  # fmt: skip


def ours(path, opts=()):
    from detectron2 import model_zoo
    from detectron2.modeling import build_model

    cfg = model_zoo.get_config(path)
    cfg.merge_from_list(["MODEL.WEIGHTS", "", "MODEL.DEVICE", "cpu", *opts])
    return build_model(cfg).eval()


def torchvision_mask_rcnn():
    """Mask R-CNN with random weights that detect something and keep activations of the order of one."""
    from torchvision.models.detection import maskrcnn_resnet50_fpn

    torch.manual_seed(0)
    net = maskrcnn_resnet50_fpn(
        weights=None, weights_backbone=None, num_classes=6, min_size=128, max_size=192
    ).eval()
    with torch.no_grad():
        for name, tensor in net.state_dict().items():
            if "running_var" in name:
                tensor.uniform_(0.5, 1.5)
            elif name.endswith("bn3.weight"):
                tensor.fill_(0.2)
            elif any(k in name for k in ("cls_score.weight", "cls_logits.weight", "bbox_pred.weight")):
                tensor.normal_(0, 0.05)
    return net


@pytest.mark.slow
def test_torchvision_detections_are_the_same(tmp_path):
    theirs = torchvision_mask_rcnn()
    torch.save(theirs.state_dict(), tmp_path / "tv.pth")
    model = ours("COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x.yaml", TORCHVISION)
    loader = DetectionCheckpointer(model)
    loader.load(str(tmp_path / "tv.pth"))
    assert loader.last_report.complete
    match_torchvision_anchors(model)
    image = torch.rand(3, 128, 192)
    logits = []
    theirs.roi_heads.mask_predictor.register_forward_hook(lambda module, args, output: logits.append(output))
    with torch.no_grad():
        want = theirs([image])[0]
        got = model([{"image": image * 255, "height": 128, "width": 192}])[0]["instances"]
    assert len(got) == len(want["scores"]) > 10
    torch.testing.assert_close(got.scores, want["scores"], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(got.pred_boxes.tensor, want["boxes"], rtol=1e-4, atol=1e-2)
    assert torch.equal(got.pred_classes, want["labels"] - 1)
    # Masks before they are pasted: the two libraries paste a fraction of a pixel apart.
    with torch.no_grad():
        small = model.inference([{"image": image * 255, "height": 128, "width": 192}], do_postprocess=False)[
            0
        ]
    chosen = logits[0][torch.arange(len(got)), want["labels"]].sigmoid()
    torch.testing.assert_close(small.pred_masks[:, 0], chosen, rtol=1e-3, atol=1e-3)


def names_of(path):
    from detectron2 import model_zoo
    from detectron2.modeling import build_model

    cfg = model_zoo.get_config(path)
    cfg.merge_from_list(["MODEL.WEIGHTS", "", "MODEL.DEVICE", "meta"])
    with torch.device("meta"):  # shapes only
        model = build_model(cfg)
    return {k: v.shape for k, v in model.state_dict().items() if "cell_anchors" not in k}


def test_torchvision_retinanet_fits():
    from torchvision.models.detection import retinanet_resnet50_fpn

    with torch.device("meta"):
        theirs = retinanet_resnet50_fpn(weights=None, weights_backbone=None, num_classes=81)
    converted = convert_torchvision_weights(theirs.state_dict())
    wanted = names_of("COCO-Detection/retinanet_R_50_FPN_1x.yaml")
    assert set(converted) == set(wanted)
    differ = {k for k, v in converted.items() if v.shape != wanted[k]}
    assert differ == {"backbone.top_block.p6.weight"}  # theirs starts from p5, ours from res5


def test_anchor_rows_of_retinanet_move_together():
    anchors, classes = 9, 3
    # value = 100 * anchor + class; anchors by ratio, then by size
    rows = torch.arange(anchors)[:, None] * 100 + torch.arange(classes)
    got = convert_torchvision_weights(
        {
            "head.classification_head.cls_logits.bias": rows.flatten(),
            "head.regression_head.bbox_reg.weight": torch.zeros(36, 1),
        }
    )["head.cls_score.bias"]
    want = [100 * (3 * ratio + size) + c for size in range(3) for ratio in range(3) for c in (1, 2)]
    assert got.tolist() == want


def test_norm_eps_is_made_up_for():
    name = "backbone.body.bn1.running_var"
    got = convert_torchvision_weights({name: torch.ones(1)}, norm_eps=0.0)
    assert got["backbone.bottom_up.stem.conv1.norm.running_var"].item() == pytest.approx(1 - 1e-5)
    with pytest.raises(ValueError, match=r"head\.what"):
        convert_torchvision_weights({"head.what": torch.ones(1)})


def mmdet_names(ours_names, retina=False):
    """The names that MMDetection gives to these layers."""
    import re

    rules = [
        (r"^backbone\.bottom_up\.stem\.conv1\.norm\.", "backbone.bn1."),
        (r"^backbone\.bottom_up\.stem\.", "backbone."),
        (r"^backbone\.bottom_up\.res(\d)\.(\d+)\.shortcut\.norm\.", lambda m: f"backbone.layer{int(m[1]) - 1}.{m[2]}.downsample.1."),
        (r"^backbone\.bottom_up\.res(\d)\.(\d+)\.shortcut\.", lambda m: f"backbone.layer{int(m[1]) - 1}.{m[2]}.downsample.0."),
        (r"^backbone\.bottom_up\.res(\d)\.(\d+)\.conv(\d)\.norm\.", lambda m: f"backbone.layer{int(m[1]) - 1}.{m[2]}.bn{m[3]}."),
        (r"^backbone\.bottom_up\.res(\d)\.", lambda m: f"backbone.layer{int(m[1]) - 1}."),
        (r"^backbone\.fpn_lateral(\d)\.", lambda m: f"neck.lateral_convs.{int(m[1]) - (3 if retina else 2)}.conv."),
        (r"^backbone\.fpn_output(\d)\.", lambda m: f"neck.fpn_convs.{int(m[1]) - (3 if retina else 2)}.conv."),
        (r"^backbone\.top_block\.p(\d)\.", lambda m: f"neck.fpn_convs.{int(m[1]) - 3}.conv."),
        (r"^proposal_generator\.rpn_head\.conv\.", "rpn_head.rpn_conv."),
        (r"^proposal_generator\.rpn_head\.objectness_logits\.", "rpn_head.rpn_cls."),
        (r"^proposal_generator\.rpn_head\.anchor_deltas\.", "rpn_head.rpn_reg."),
        (r"^roi_heads\.box_head\.(\d\.)?fc(\d)\.", lambda m: f"roi_head.bbox_head.{m[1] or ''}shared_fcs.{int(m[2]) - 1}."),
        (r"^roi_heads\.box_predictor\.(\d\.)?cls_score\.", lambda m: f"roi_head.bbox_head.{m[1] or ''}fc_cls."),
        (r"^roi_heads\.box_predictor\.(\d\.)?bbox_pred\.", lambda m: f"roi_head.bbox_head.{m[1] or ''}fc_reg."),
        (r"^roi_heads\.mask_head\.mask_fcn(\d)\.", lambda m: f"roi_head.mask_head.convs.{int(m[1]) - 1}.conv."),
        (r"^roi_heads\.mask_head\.deconv\.", "roi_head.mask_head.upsample."),
        (r"^roi_heads\.mask_head\.predictor\.", "roi_head.mask_head.conv_logits."),
        (r"^head\.cls_subnet\.(\d)\.", lambda m: f"bbox_head.cls_convs.{int(m[1]) // 2}.conv."),
        (r"^head\.bbox_subnet\.(\d)\.", lambda m: f"bbox_head.reg_convs.{int(m[1]) // 2}.conv."),
        (r"^head\.cls_score\.", "bbox_head.retina_cls."),
        (r"^head\.bbox_pred\.", "bbox_head.retina_reg."),
    ]  # fmt: skip
    result = {}
    for name in ours_names:
        for pattern, new in rules:
            other, count = re.subn(pattern, new, name)
            if count:
                result[name] = other
                break
    return result


@pytest.mark.parametrize(
    "path",
    [
        "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x.yaml",
        "Misc/cascade_mask_rcnn_R_50_FPN_1x.yaml",
        "COCO-Detection/retinanet_R_50_FPN_1x.yaml",
    ],
)
def test_mmdet_names_round_trip(path):
    wanted = names_of(path)
    foreign = mmdet_names(wanted, retina="retinanet" in path)
    assert set(foreign) == set(wanted)
    converted = convert_mmdet_weights(
        {other: torch.zeros(wanted[name], device="meta") for name, other in foreign.items()}
    )
    assert {k: v.shape for k, v in converted.items()} == wanted
