"""Optimizers and schedules from configs."""

import pytest
import torch
from torch import nn

from detectron2.config import get_cfg
from detectron2.layers import LayerNorm as ChannelLayerNorm
from detectron2.solver import LRMultiplier, build_lr_scheduler, build_optimizer, get_default_optimizer_params
from detectron2.solver._clip import clip_full_norm, clip_norm, clip_value
from detectron2.solver.build import maybe_add_gradient_clipping, reduce_param_groups
from detectron2.solver.param_scheduler import LinearParamScheduler


def cfg_with(*opts):
    cfg = get_cfg()
    cfg.merge_from_list(list(opts))
    return cfg


def option_of(groups, parameter, name):
    return next(g[name] for g in groups if any(p is parameter for p in g["params"]))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = nn.ModuleDict(
            {"stem": nn.Conv2d(1, 1, 1), "res2": nn.Conv2d(1, 1, 1), "res3": nn.Conv2d(1, 1, 1)}
        )
        self.norm = ChannelLayerNorm(2)
        self.head = nn.Linear(2, 2)


def test_our_own_layer_norm_is_a_norm():
    net = Net()
    groups = get_default_optimizer_params(net, base_lr=0.1, weight_decay=0.5, weight_decay_norm=0.0)
    assert option_of(groups, net.norm.weight, "weight_decay") == 0.0
    assert option_of(groups, net.head.weight, "weight_decay") == 0.5


def test_overrides_of_the_caller_stay_as_they_are():
    overrides = {"weight": {"lr": 1.0}}
    get_default_optimizer_params(Net(), base_lr=0.1, weight_decay_bias=0.0, overrides=overrides)
    assert overrides == {"weight": {"lr": 1.0}}


def test_every_parameter_is_in_exactly_one_group():
    net = Net()
    net.head.bias.requires_grad = False
    groups = get_default_optimizer_params(net, base_lr=0.1, bias_lr_factor=2.0, weight_decay_bias=0.0)
    found = [p for g in groups for p in g["params"]]
    assert len(found) == len({id(p) for p in found}) == sum(p.requires_grad for p in net.parameters())


def test_reduce_accepts_single_tensors_and_nothing():
    p = nn.Parameter(torch.zeros(1))
    assert reduce_param_groups([{"params": p, "lr": 1.0}]) == [{"lr": 1.0, "params": [p]}]
    assert reduce_param_groups([]) == []


def test_layer_decay_and_patterns():
    net = Net()
    opts = ("SOLVER.LAYER_DECAY", 0.5, "SOLVER.LR_FACTORS", [["^head", 3.0]], "SOLVER.BASE_LR", 1.0)
    groups = build_optimizer(cfg_with(*opts), net).param_groups
    rate = [option_of(groups, m.weight, "lr") for m in (*net.backbone.values(), net.norm, net.head)]
    # res3 is the last block, numbered 4 in a depth of 4; the stem comes before block 0.
    assert rate == [0.5**5, 0.5**2, 0.5, 1.0, 3.0]
    with pytest.raises(ValueError, match="no numbered blocks"):
        build_optimizer(cfg_with("SOLVER.LAYER_DECAY", 0.5), nn.Linear(1, 1))
    with pytest.raises(ValueError, match="regular expression"):
        build_optimizer(cfg_with("SOLVER.LR_FACTORS", [["(", 1.0]]), net)


@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW"])
def test_optimizers(name):
    assert type(build_optimizer(cfg_with("SOLVER.OPTIMIZER", name), Net())) is getattr(torch.optim, name)


def test_unknown_names_offer_the_nearest():
    with pytest.raises(ValueError, match="AdamW"):
        build_optimizer(cfg_with("SOLVER.OPTIMIZER", "Adamw"), Net())
    optimizer = build_optimizer(cfg_with(), Net())
    with pytest.raises(ValueError, match="WarmupCosineLR"):
        build_lr_scheduler(cfg_with("SOLVER.LR_SCHEDULER_NAME", "WarmupCosinLR"), optimizer)
    with pytest.raises(ValueError, match="full_model"):
        cfg = cfg_with("SOLVER.CLIP_GRADIENTS.ENABLED", True, "SOLVER.CLIP_GRADIENTS.CLIP_TYPE", "full")
        maybe_add_gradient_clipping(cfg, optimizer)


def rates(*opts, steps=20):
    cfg = cfg_with("SOLVER.MAX_ITER", steps, "SOLVER.WARMUP_ITERS", 0, "SOLVER.BASE_LR", 2.0, *opts)
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=2.0)
    scheduler = build_lr_scheduler(cfg, optimizer)
    found = []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()  # the step after the last iteration must work too
    return found


def test_polynomial_and_one_cycle():
    poly = rates("SOLVER.LR_SCHEDULER_NAME", "WarmupPolynomialLR", "SOLVER.POLY_POWER", 2.0)
    assert poly == pytest.approx([2.0 * (1 - i / 20) ** 2 for i in range(20)])
    cycle = rates("SOLVER.LR_SCHEDULER_NAME", "OneCycleLR", "SOLVER.ONE_CYCLE.UP_SHARE", 0.25)
    assert cycle[0] == pytest.approx(2.0 / 25) and cycle[5] == pytest.approx(2.0)
    assert cycle[:6] == sorted(cycle[:6]) and cycle[5:] == sorted(cycle[5:], reverse=True)
    with pytest.raises(ValueError, match="UP_SHARE"):
        rates("SOLVER.LR_SCHEDULER_NAME", "OneCycleLR", "SOLVER.ONE_CYCLE.UP_SHARE", 1.0)


def test_fixed_gamma_reaches_its_end():
    found = rates(
        "SOLVER.LR_SCHEDULER_NAME", "WarmupStepWithFixedGammaLR", "SOLVER.NUM_DECAYS", 3, "SOLVER.GAMMA", 0.5
    )
    assert found == [2.0] * 5 + [1.0] * 5 + [0.5] * 5 + [0.25] * 5


def test_multiplier_wants_a_curve_and_keeps_ratios():
    a, b = (nn.Parameter(torch.zeros(1)) for _ in range(2))
    optimizer = torch.optim.SGD([{"params": [a], "lr": 1.0}, {"params": [b], "lr": 4.0}], lr=9.0)
    with pytest.raises(ValueError, match="ParamScheduler"):
        LRMultiplier(optimizer, multiplier=lambda x: x, max_iter=5)
    scheduler = LRMultiplier(optimizer, LinearParamScheduler(1.0, 0.0), max_iter=5)
    for _ in range(3):
        optimizer.step()
        scheduler.step()
    assert [g["lr"] for g in optimizer.param_groups] == pytest.approx([0.4, 1.6])


def parameters_with(*grads):
    found = []
    for grad in grads:
        p = nn.Parameter(torch.zeros(3))
        p.grad = None if grad is None else torch.tensor(grad)
        found.append(p)
    return found


def test_clipping_against_the_definition():
    grads = [[3.0, -4.0, 0.0], None, [0.1, 0.0, 0.0], [0.0, 0.0, 0.0]]
    params = parameters_with(*grads)
    clip_value(params, 0.5)
    assert params[0].grad.tolist() == [0.5, -0.5, 0.0] and params[1].grad is None
    for norm_type in (2.0, 1.0, float("inf")):
        params = parameters_with(*grads)
        clip_norm(params, 1.0, norm_type)
        for p, grad in zip(params, grads):
            if grad is None:
                assert p.grad is None
                continue
            expected = nn.Parameter(torch.zeros(3))
            expected.grad = torch.tensor(grad)
            torch.nn.utils.clip_grad_norm_([expected], 1.0, norm_type)
            assert torch.allclose(p.grad, expected.grad)
    params = parameters_with(*grads)
    clip_full_norm(params, 1.0)
    assert sum(float(p.grad.square().sum()) for p in params if p.grad is not None) == pytest.approx(
        1.0, rel=1e-4
    )
    clip_value(parameters_with(None), 1.0)
    clip_norm([], 1.0)


@pytest.mark.parametrize("kind", ["value", "norm", "full_model"])
def test_clipped_step_equals_clip_then_step(kind):
    results = []
    for inside in (True, False):
        torch.manual_seed(0)
        net = nn.Linear(3, 3)
        optimizer = torch.optim.SGD(net.parameters(), lr=1.0, momentum=0.9)
        cfg = cfg_with("SOLVER.CLIP_GRADIENTS.ENABLED", True, "SOLVER.CLIP_GRADIENTS.CLIP_TYPE", kind,
                       "SOLVER.CLIP_GRADIENTS.CLIP_VALUE", 0.2)  # fmt: skip
        if inside:
            optimizer = maybe_add_gradient_clipping(cfg, optimizer)
            assert isinstance(optimizer, torch.optim.SGD)
        for _ in range(3):
            optimizer.zero_grad()
            net(torch.ones(2, 3)).square().sum().backward()
            if not inside:
                function = {"value": clip_value, "norm": clip_norm, "full_model": clip_full_norm}[kind]
                function(list(net.parameters()), 0.2)
            optimizer.step()
        results.append(net.weight.detach().clone())
    assert torch.equal(*results)


def test_clipping_with_a_closure_and_pickling_of_state():
    net = nn.Linear(3, 1)
    cfg = cfg_with("SOLVER.CLIP_GRADIENTS.ENABLED", True, "SOLVER.CLIP_GRADIENTS.CLIP_VALUE", 0.0)
    optimizer = maybe_add_gradient_clipping(cfg, torch.optim.SGD)(net.parameters(), lr=1.0)
    before = net.weight.detach().clone()

    def closure():
        optimizer.zero_grad()
        loss = net(torch.ones(1, 3)).sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).ndim == 0
    assert torch.equal(net.weight, before)  # everything was clipped to zero
    optimizer.load_state_dict(optimizer.state_dict())


def test_steps_behind_the_end_are_reported(caplog):
    rates("SOLVER.STEPS", (5, 90))
    assert "(5, 90)" in caplog.text


def test_fused_is_one_kernel_with_the_same_steps() -> None:
    weights = []
    for fused in (False, True):
        torch.manual_seed(0)
        model = nn.Linear(3, 2)
        cfg = get_cfg()
        cfg.SOLVER.FUSED = fused
        optimizer = build_optimizer(cfg, model)
        assert bool(optimizer.defaults["fused"]) is fused
        for _ in range(3):
            optimizer.zero_grad()
            model(torch.ones(4, 3)).square().sum().backward()
            optimizer.step()
        weights.append(model.weight.detach())
    torch.testing.assert_close(*weights)
