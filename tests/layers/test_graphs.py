"""Operators in whole graphs: torch.export and torch.compile without breaks, with sizes that vary."""

import pytest
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from detectron2.layers import (
    ASPP,
    CycleBatchNormList,
    DeformConv,
    DepthwiseSeparableConv2d,
    ModulatedDeformConv,
    NaiveSyncBatchNorm,
    ROIAlign,
    ROIAlignRotated,
    batched_nms,
    batched_nms_rotated,
    ciou_loss,
    diou_loss,
    get_norm,
    pairwise_iou_rotated,
    paste_masks_in_image,
)
from detectron2.layers.losses import giou_loss, sigmoid_focal_loss, smooth_l1_loss
from detectron2.structures import (
    BitMasks,
    Boxes,
    ImageList,
    Instances,
    heatmaps_to_keypoints,
    pairwise_ioa,
    pairwise_iou,
)

# torchvision's description of nms uses a name that torch has renamed since
pytestmark = [
    pytest.mark.filterwarnings("ignore:`create_unbacked_symint`:FutureWarning"),
    # norms that take turns count their calls; a graph holds a full turn
    pytest.mark.filterwarnings("ignore:While compiling, we found certain side effects:UserWarning"),
]

ANY = torch.export.Dim.DYNAMIC


class Call(nn.Module):
    def __init__(self, function) -> None:
        super().__init__()
        self.function = function

    def forward(self, *args: Tensor):
        return self.function(*args)


def boxes(count: int) -> Tensor:
    near = torch.rand(count, 2) * 60
    return torch.cat([near, near + 1 + torch.rand(count, 2) * 40], 1)


def rotated(count: int) -> Tensor:
    return torch.cat(
        [torch.rand(count, 2) * 60, 1 + torch.rand(count, 2) * 40, torch.rand(count, 1) * 360], 1
    )


def with_image(rows: Tensor) -> Tensor:
    return torch.cat([torch.arange(len(rows))[:, None] % 2, rows], 1)


def detections(tensor: Tensor, scores: Tensor, classes: Tensor):
    """What a detector does with its candidates."""
    found = Instances((80, 90), pred_boxes=Boxes(tensor), scores=scores, pred_classes=classes)
    found.pred_boxes.clip(found.image_size)
    found = found[batched_nms(found.pred_boxes.tensor, found.scores, found.pred_classes, 0.5)[:10]]
    found = found[found.pred_boxes.nonempty()]
    return found.pred_boxes.tensor, found.scores, found.pred_classes


def batch_of_two(a: Tensor, b: Tensor) -> Tensor:
    return ImageList.from_tensors([a, b], 32).tensor


def candidates(n: int):
    return boxes(n), torch.rand(n), torch.randint(0, 4, (n,))


def features(n: int) -> Tensor:
    return torch.randn(2, 3, 18 + n, 20 + n)


def box_losses(a: Tensor, b: Tensor) -> Tensor:
    return torch.stack(
        [giou_loss(a, b), diou_loss(a, b), ciou_loss(a, b), smooth_l1_loss(a, b, 0.5).sum(1)], 1
    )


def overlaps(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    return pairwise_iou(Boxes(a), Boxes(b)), pairwise_ioa(Boxes(a), Boxes(b))


def norms(channels: int) -> nn.Module:
    """Every norm that a config can name, and two more, in a row."""
    names = ("FrozenBN", "GN", "LN", "BN", "SyncBN", "naiveSyncBN", "naiveSyncBN_N", "nnSyncBN")
    made = [get_norm(name, channels) for name in names]
    cycle = CycleBatchNormList(length=2, bn_class=nn.BatchNorm2d, num_features=channels)
    return nn.Sequential(
        *(m for m in made if m is not None), NaiveSyncBatchNorm(channels), cycle, cycle
    ).eval()


torch.manual_seed(0)
PLAIN, WEIGHTED = DeformConv(3, 4, 3, padding=1), ModulatedDeformConv(3, 4, 3, padding=1)
POOLED = ASPP(3, 4, [1, 2, 3], norm="LN", activation=nn.ReLU(), use_depthwise_separable_conv=True)
SEPARABLE, NORMS = DepthwiseSeparableConv2d(3, 4, norm1="LN", norm2="LN"), norms(32)
SIDES = ({2: ANY, 3: ANY},)


def taps(n: int, groups: int) -> Tensor:
    return torch.randn(2, groups * 9, 18 + n, 20 + n)


# name: (function, inputs of a size, which dimensions vary)
OPERATORS = {
    "detections": (detections, candidates, ({0: ANY}, {0: ANY}, {0: ANY})),
    "nms_rotated": (
        lambda b, s, c: batched_nms_rotated(b, s, c, 0.3),
        lambda n: (rotated(n), *candidates(n)[1:]),
        ({0: ANY}, {0: ANY}, {0: ANY}),
    ),
    "iou_rotated": (pairwise_iou_rotated, lambda n: (rotated(n), rotated(n + 2)), ({0: ANY}, {0: ANY})),
    "roi_align": (
        lambda x, r: ROIAlign((3, 3), 0.25, 0)(x, r),
        lambda n: (features(n), with_image(boxes(n))),
        ({2: ANY, 3: ANY}, {0: ANY}),
    ),
    "roi_align_rotated_adaptive": (
        lambda x, r: ROIAlignRotated((3, 3), 0.25, 0)(x, r),
        lambda n: (features(n), with_image(rotated(n))),
        ({2: ANY, 3: ANY}, {0: ANY}),
    ),
    "roi_align_rotated": (
        lambda x, r: ROIAlignRotated((3, 3), 0.25, 2)(x, r),
        lambda n: (features(n), with_image(rotated(n))),
        ({2: ANY, 3: ANY}, {0: ANY}),
    ),
    "paste": (
        lambda m, b: paste_masks_in_image(m, b, (60, 70)),
        lambda n: (torch.ones(n, 7, 7), boxes(n)),
        ({0: ANY}, {0: ANY}),
    ),
    "crop": (
        lambda m, b: BitMasks(m).crop_and_resize(b, 5),
        lambda n: (torch.ones(n, 60, 70, dtype=torch.bool), boxes(n)),
        ({0: ANY}, {0: ANY}),
    ),
    "keypoints": (
        heatmaps_to_keypoints,
        lambda n: (torch.randn(n, 3, 8, 8), boxes(n)),
        ({0: ANY}, {0: ANY}),
    ),
    "deform_conv": (PLAIN, lambda n: (features(n), taps(n, 2)), SIDES * 2),
    "modulated_deform_conv": (
        WEIGHTED,
        lambda n: (features(n), taps(n, 2), taps(n, 1).sigmoid()),
        SIDES * 3,
    ),
    "aspp": (POOLED, lambda n: (features(n),), SIDES),
    "depthwise": (SEPARABLE, lambda n: (features(n),), SIDES),
    "norms": (NORMS, lambda n: (torch.randn(2, 32, 4 + n, 5),), ({2: ANY},)),
    "box_losses": (box_losses, lambda n: (boxes(n), boxes(n)), ({0: ANY}, {0: ANY})),
    "focal_loss": (
        lambda x, y: sigmoid_focal_loss(x, y, alpha=0.25, gamma=2.0, reduction="sum"),
        lambda n: (torch.randn(n, 5), (torch.rand(n, 5) > 0.5).float()),
        ({0: ANY}, {0: ANY}),
    ),
    "overlaps": (overlaps, lambda n: (boxes(n), boxes(n + 2)), ({0: ANY}, {0: ANY})),
    "image_list": (
        batch_of_two,
        lambda n: (torch.rand(3, 30 + n, 40), torch.rand(3, 40, 20 + n)),
        ({1: ANY, 2: ANY}, {1: ANY, 2: ANY}),
    ),
}


QUICK = {"detections", "roi_align", "crop", "iou_rotated"}


@pytest.mark.parametrize(
    "name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in OPERATORS]
)
@pytest.mark.parametrize(
    "strict", [True, pytest.param(False, marks=pytest.mark.slow)], ids=["strict", "nonstrict"]
)
def test_export(name: str, strict: bool) -> None:
    torch.manual_seed(0)
    function, make, varies = OPERATORS[name]
    program = torch.export.export(Call(function), make(12), dynamic_shapes=(varies,), strict=strict).module()
    for size in (12, 17, 4):
        inputs = make(size)
        got, want = tree_leaves(program(*inputs)), tree_leaves(function(*inputs))
        assert len(got) == len(want)
        for a, b in zip(got, want):
            torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", OPERATORS)
def test_compile_without_break(name: str) -> None:
    torch.manual_seed(0)
    torch.compiler.reset()
    function, make, _ = OPERATORS[name]
    compiled = torch.compile(function, fullgraph=True, backend="aot_eager", dynamic=True)
    for size in (12, 17):
        inputs = make(size)
        for a, b in zip(tree_leaves(compiled(*inputs)), tree_leaves(function(*inputs))):
            torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)


@pytest.mark.slow
def test_backward_of_compiled_rotated_pooling() -> None:
    torch.manual_seed(1)
    torch.compiler.reset()
    rois = with_image(rotated(9))
    grads = []
    for wrap in (lambda f: f, lambda f: torch.compile(f, fullgraph=True, backend="aot_eager")):
        x = torch.linspace(-1, 1, 2 * 3 * 20 * 22).sin().reshape(2, 3, 20, 22).requires_grad_()
        wrap(lambda x: ROIAlignRotated((3, 3), 0.25, 0)(x, rois).square().sum())(x).backward()
        grads.append(x.grad)
    torch.testing.assert_close(grads[1], grads[0], atol=1e-5, rtol=1e-4)
