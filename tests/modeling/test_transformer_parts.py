"""Parts of detection transformers against loops and formulas."""

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from detectron2.modeling import transformer as tr


def rand_boxes(n: int) -> Tensor:
    """Corners in [0, 1]."""
    near = torch.rand(n, 2) * 0.6
    return torch.cat([near, near + torch.rand(n, 2) * 0.39 + 0.01], 1)


# ------------------------------------------------------------------------------------------------- layers, positions


def test_mlp_is_linear_layers_with_relu_between() -> None:
    m = tr.MLP(6, 5, 3, 3)
    assert [tuple(p.shape) for p in m.parameters()] == [(5, 6), (5,), (5, 5), (5,), (3, 5), (3,)]
    x = torch.randn(2, 4, 6)
    a, b, c = m.layers
    torch.testing.assert_close(m(x), c(F.relu(b(F.relu(a(x))))))
    assert tr.MLP(6, 5, 3, 1).layers[0].weight.shape == (3, 6)


def test_sine_encoding() -> None:
    got = tr.sine_encoding(torch.tensor([0.7]), 6, 100)[0].tolist()
    for i, value in enumerate(got):
        angle = 0.7 / 100 ** (2 * (i // 2) / 6)
        assert value == pytest.approx(math.cos(angle) if i % 2 else math.sin(angle), abs=1e-6)


def test_map_encoding_spans_what_is_not_padding() -> None:
    hidden = torch.zeros(1, 4, 6, dtype=torch.bool)
    hidden[:, 3:] = True
    hidden[:, :, 4:] = True
    got = tr.sine_encoding_of_map(hidden, 4, normalize=True, offset=-0.5, eps=0)
    for row, column in itertools.product(range(3), range(4)):
        y, x = (torch.tensor((i + 0.5) / n * 2 * math.pi) for i, n in ((row, 3), (column, 4)))
        want = torch.cat([tr.sine_encoding(y, 4), tr.sine_encoding(x, 4)])
        torch.testing.assert_close(got[0, :, row, column], want)


def test_position_embedding_of_features() -> None:
    m = tr.PositionEmbeddingSine(3, normalize=True)
    got = m(torch.zeros(2, 8, 4, 5))
    assert got.shape == (2, 6, 4, 5)
    assert torch.equal(got[0], got[1])
    assert torch.equal(got, m(torch.zeros(2, 8, 4, 5), torch.zeros(2, 4, 5, dtype=torch.bool)))
    assert "num_pos_feats=3" in repr(m)
    with pytest.raises(ValueError, match="normalize"):
        tr.PositionEmbeddingSine(3, scale=2.0)


def test_box_encoding_puts_y_first() -> None:
    boxes = torch.rand(2, 3, 4)
    got = tr.sine_encoding_of_boxes(boxes, 4, 20)
    parts = [tr.sine_encoding(boxes[..., i] * 2 * math.pi, 4, 20) for i in (1, 0, 2, 3)]
    torch.testing.assert_close(got, torch.cat(parts, -1))
    torch.testing.assert_close(tr.sine_encoding_of_boxes(boxes[..., :2], 4, 20), got[..., :8])


def test_reference_points_stand_on_pixel_centres() -> None:
    shapes = [(4, 6), (2, 3)]
    hidden = torch.zeros(2, 4, 6, dtype=torch.bool)
    hidden[1, 2:] = True
    hidden[1, :, 3:] = True
    ratios = torch.stack([tr.valid_ratio(hidden), tr.valid_ratio(hidden[:, ::2, ::2])], 1)
    points = tr.pixel_reference_points(shapes, ratios)
    assert points.shape == (2, 30, 2, 2)
    # without padding all levels agree, and pixel (1, 2) of the first level is number 8
    torch.testing.assert_close(points[0, 8], torch.tensor([[2.5 / 6, 1.5 / 4]] * 2))
    # with padding a position is relative to the part that is seen, on its own level and on the other
    torch.testing.assert_close(points[1, 8, 0], torch.tensor([2.5 / 6, 1.5 / 4]))
    torch.testing.assert_close(points[1, 8, 1], torch.tensor([2.5 / 3 * 2 / 3, 1.5 / 2 * 1 / 2]))


def test_inverse_sigmoid_is_bounded() -> None:
    x = torch.linspace(0.01, 0.99, 9)
    torch.testing.assert_close(tr.inverse_sigmoid(x).sigmoid(), x)
    edge = tr.inverse_sigmoid(torch.tensor([-1.0, 0.0, 1.0, 2.0]), eps=1e-3)
    torch.testing.assert_close(edge, torch.tensor([-1.0, -1, 1, 1]) * math.log(1e3))


def test_activation_names() -> None:
    assert tr.activation_function("gelu") is F.gelu
    with pytest.raises(ValueError, match="relu, gelu"):
        tr.activation_function("swish")


def test_encoder_sees_no_padding_and_levels_change_size() -> None:
    torch.manual_seed(0)
    layer = tr.MSDeformAttnTransformerEncoderLayer(16, 24, 0.0, "gelu", 2, 4, 2)
    encoder = tr.MSDeformAttnTransformerEncoder(layer, 2).eval()
    assert encoder.layers[0] is not encoder.layers[1]
    maps = [torch.randn(2, 16, 4, 6), torch.randn(2, 16, 2, 3)]
    flat, shapes = tr.flatten_levels(maps)
    assert shapes == [(4, 6), (2, 3)]
    assert torch.equal(flat[1, 24 + 4], maps[1][1, :, 1, 1])
    assert tr.level_start_index(torch.tensor(shapes)).tolist() == [0, 24]
    hidden = torch.zeros(2, 30, dtype=torch.bool)
    hidden[1, 20:24] = True
    ratios = torch.ones(2, 2, 2)
    got = encoder(flat, shapes, None, ratios, flat * 0.1, hidden)
    changed = flat.clone()
    changed[1, 20:24] += 3
    other = encoder(changed, torch.tensor(shapes), None, ratios, flat * 0.1, hidden)
    torch.testing.assert_close(got[~hidden], other[~hidden])


# ------------------------------------------------------------------------------------------------------------- boxes


def test_boxes_and_their_overlap() -> None:
    torch.manual_seed(0)
    a, b = rand_boxes(5), rand_boxes(4)
    torch.testing.assert_close(tr.box_cxcywh_to_xyxy(tr.box_xyxy_to_cxcywh(a)), a)
    iou, union = tr.box_iou(a, b)
    giou = tr.generalized_box_iou(a, b)
    for i, j in itertools.product(range(5), range(4)):
        (ax0, ay0, ax1, ay1), (bx0, by0, bx1, by1) = a[i].tolist(), b[j].tolist()
        inter = max(0, min(ax1, bx1) - max(ax0, bx0)) * max(0, min(ay1, by1) - max(ay0, by0))
        whole = (ax1 - ax0) * (ay1 - ay0) + (bx1 - bx0) * (by1 - by0) - inter
        hull = (max(ax1, bx1) - min(ax0, bx0)) * (max(ay1, by1) - min(ay0, by0))
        assert union[i, j].item() == pytest.approx(whole, rel=1e-4)
        assert iou[i, j].item() == pytest.approx(inter / whole, rel=1e-4, abs=1e-6)
        assert giou[i, j].item() == pytest.approx(inter / whole - (hull - whole) / hull, rel=1e-3, abs=1e-5)
    with pytest.raises(ValueError, match="x1 >= x0"):
        tr.generalized_box_iou(a[:, [2, 3, 0, 1]], b)


def test_boxes_of_masks() -> None:
    masks = torch.zeros(3, 6, 8)
    masks[0, 2:4, 1:7] = 1
    masks[1, 5, 7] = 1
    assert tr.masks_to_boxes(masks).tolist() == [[1, 2, 6, 3], [7, 5, 7, 5], [0, 0, 0, 0]]
    assert tr.masks_to_boxes(masks[:0]).shape == (0, 4)


# ---------------------------------------------------------------------------------------------------------- matching


def test_costs_are_the_losses_of_single_pairs() -> None:
    torch.manual_seed(0)
    logits, labels = torch.randn(4, 6), torch.tensor([5, 0, 2])
    masks, targets = torch.randn(4, 20) * 3, torch.rand(3, 20)
    a, b = rand_boxes(4), rand_boxes(3)
    p = logits.sigmoid()
    for q, t in itertools.product(range(4), range(3)):
        bce = F.binary_cross_entropy_with_logits(masks[q], targets[t])
        m = masks[q].sigmoid()
        dice = 1 - (2 * (m * targets[t]).sum() + 1) / (m.sum() + targets[t].sum() + 1)
        one = p[q, labels[t]]
        focal = -0.25 * (1 - one) ** 2 * one.log() + 0.75 * one**2 * (1 - one).log()
        found = {
            "bce": (tr.batch_sigmoid_ce_loss(masks, targets), bce),
            "dice": (tr.batch_dice_loss(masks, targets), dice),
            "focal": (tr.focal_cost(logits, labels), focal),
            "class": (tr.class_cost(logits, labels), -logits[q].softmax(0)[labels[t]]),
            "l1": (tr.l1_cost(a, b), (a[q] - b[t]).abs().sum()),
            "giou": (tr.giou_cost(a, b), -tr.generalized_box_iou(a[q : q + 1], b[t : t + 1])[0, 0]),
        }
        for got, want in found.values():
            torch.testing.assert_close(got[q, t], want, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("queries", "objects"), [(5, 3), (3, 5), (4, 0), (0, 2)])
def test_assignment_is_the_best_of_all(queries: int, objects: int) -> None:
    torch.manual_seed(queries)
    costs = [torch.randn(queries, objects), torch.randn(queries, objects)]
    for cost, (i, j) in zip(costs, tr.assign(costs)):
        assert len(i) == len(j) == min(queries, objects)
        assert i.tolist() == sorted(set(i.tolist()))
        small, big = sorted((queries, objects))
        table = cost if queries == small else cost.T
        best = min(
            (
                sum(table[k, c] for k, c in enumerate(chosen))
                for chosen in itertools.permutations(range(big), small)
            ),
            key=float,
        )
        assert float(cost[i, j].sum()) == pytest.approx(float(best), abs=1e-5)


def test_assignment_avoids_costs_that_are_not_finite() -> None:
    cost = torch.tensor([[math.nan, 1.0], [2.0, math.inf]])
    ((i, j),) = tr.assign([cost])
    assert list(zip(i.tolist(), j.tolist())) == [(0, 1), (1, 0)]


def test_matched_queries_index_a_batch() -> None:
    pairs = [(torch.tensor([1, 4]), torch.tensor([0, 1])), (torch.tensor([], dtype=torch.int64),) * 2]
    pairs.append((torch.tensor([2]), torch.tensor([0])))
    images, queries = tr.matched_queries(pairs)
    assert images.tolist() == [0, 0, 2]
    assert queries.tolist() == [1, 4, 2]


# ------------------------------------------------------------------------------------------------------------- masks


def test_masks_of_smaller_images_lie_at_the_top_left() -> None:
    torch.manual_seed(0)
    logits = torch.randn(2, 3, 8, 10)
    big, small = torch.rand(2, 16, 20) > 0.5, torch.rand(1, 9, 13) > 0.5
    indices = [(torch.tensor([0, 2]), torch.tensor([1, 0])), (torch.tensor([1]), torch.tensor([0]))]
    padded = F.pad(small, (0, 7, 0, 7))
    results = []
    for masks in ([big, small], [big, padded]):
        torch.manual_seed(1)
        results.append(tr.matched_masks_at_points(logits, masks, indices, 30, 3.0, 0.75))
    for a, b in zip(*results):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)
    for masks, extent in ((small, (16, 20)), (padded, None)):
        torch.manual_seed(2)
        results.append(tr.masks_at_points(logits[0], masks, 25, extent))
    torch.testing.assert_close(results[2], results[3], atol=1e-5, rtol=1e-5)
    assert results[2][0].shape == (3, 25) and results[2][1].shape == (1, 25)


def test_points_are_where_the_prediction_is_uncertain() -> None:
    torch.manual_seed(0)
    logits = torch.linspace(-9, 9, 32).expand(1, 1, 32, 32)
    target = [torch.ones(1, 32, 32, dtype=torch.bool)]
    indices = [(torch.tensor([0]), torch.tensor([0]))]
    chosen, labels = tr.matched_masks_at_points(logits, target, indices, 400, 3.0, 1.0)
    anywhere, _ = tr.matched_masks_at_points(logits, target, indices, 400, 1.0, 0.0)
    assert labels.shape == (1, 400)
    assert chosen.abs().mean() < 0.5 * anywhere.abs().mean()
    with pytest.raises(ValueError, match="one channel"):
        tr.calculate_uncertainty(torch.zeros(2, 2, 3))


def test_mask_losses() -> None:
    torch.manual_seed(0)
    x, t = torch.randn(3, 12, requires_grad=True), torch.rand(3, 12)
    p = x.sigmoid()
    dice = sum(1 - (2 * (p[i] * t[i]).sum() + 1) / (p[i].sum() + t[i].sum() + 1) for i in range(3))
    torch.testing.assert_close(tr.dice_loss(x, t, 2.0), dice / 2)
    torch.testing.assert_close(tr.sigmoid_ce_loss(x, t, 2.0), F.binary_cross_entropy(p, t) * 3 / 2)


def test_losses_of_no_masks_are_zero_with_gradients() -> None:
    logits = torch.randn(2, 3, 8, 8, requires_grad=True)
    empty = torch.tensor([], dtype=torch.int64)
    targets = [torch.zeros(0, 8, 8, dtype=torch.bool)] * 2
    x, t = tr.matched_masks_at_points(logits, targets, [(empty, empty)] * 2, 10, 3.0, 0.75)
    loss = tr.dice_loss(x, t, 1.0) + tr.sigmoid_ce_loss(x, t, 1.0)
    loss.backward()
    assert float(loss.detach()) == 0
    assert logits.grad is not None and not logits.grad.any()


def test_count_is_at_least_one() -> None:
    assert tr.mean_count(0, "cpu").tolist() == 1
    assert tr.mean_count(7, "cpu").tolist() == 7


def test_points_of_matching_are_shared() -> None:
    torch.manual_seed(0)
    mask = torch.rand(1, 6, 6)
    predicted, target = tr.masks_at_points(mask.repeat(2, 1, 1), mask, 9)
    torch.testing.assert_close(predicted, target.expand(2, 9))
