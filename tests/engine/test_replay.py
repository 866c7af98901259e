"""Replaying a step whose loss was not finite: the module that began it is named."""

import pytest
import torch
from torch import nn

from detectron2.cli import main
from detectron2.engine import SimpleTrainer
from detectron2.engine.safety.guard import DivergenceError, StepGuard
from detectron2.engine.safety.incident import load_incident, save_incident
from detectron2.engine.safety.replay import replay_step, tensors_in
from detectron2.structures import Boxes, ImageList, Instances


class Power(nn.Module):
    def forward(self, x):
        return x.exp()


class Net(nn.Module):
    """Overflows in `middle` when an image is large; the gradient of the root at 0 is infinite."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(1, 1)
        self.middle = Power()
        self.last = nn.Linear(1, 1)
        self.root = False

    def forward(self, batch):
        x = torch.stack([d["image"].mean().reshape(1) for d in batch])
        x = self.last(self.middle(self.first(x)))
        if self.root:
            return {"loss_root": (x * 0.0).sqrt().sum()}
        return {"loss_fine": x.new_ones(()) + 0 * self.first.bias.sum(), "loss_power": x.square().mean()}


def incident(tmp_path, net, image=1.0):
    batch = [{"image_id": 5, "file_name": "a.png", "image": torch.full((3, 2, 2), image)}]
    path = str(tmp_path / "bad/iteration_0000003_rank0.pth")
    save_incident(path, net, batch, 3, {"loss_power": float("nan")}, torch.get_rng_state())
    return load_incident(path)


@pytest.fixture
def net():
    torch.manual_seed(0)
    net = Net()
    nn.init.ones_(net.first.weight)
    return net


def test_names_first_loss_and_module(tmp_path, net):
    found = replay_step(Net(), incident(tmp_path, net, image=300.0))
    assert (found.forward.name, found.forward.kind, found.forward.inputs_finite) == ("middle", "Power", True)
    assert found.forward.largest_input == pytest.approx(300, abs=2) and found.forward.infs == 1
    text = found.to_text()
    assert "first loss that is not finite: loss_power" in text and "image_id 5" in text and "middle" in text
    assert found.bad_weight is None and not found.bad_inputs and found.reproduced


def test_names_bad_gradient_when_losses_are_finite(tmp_path, net):
    net.root = True
    model = Net()
    model.root = True
    found = replay_step(model, incident(tmp_path, net))
    assert found.losses == {"loss_root": 0.0} and found.forward is None
    assert found.backward.name == "last" and "last.weight" in found.bad_gradients and found.reproduced


def test_names_bad_weight_and_bad_data(tmp_path, net):
    with torch.no_grad():
        net.last.weight.fill_(float("nan"))
    found = replay_step(Net(), incident(tmp_path, net, image=float("inf")))
    assert found.bad_weight == "last.weight"
    assert not found.forward.inputs_finite and found.forward.name == "first"
    assert "image_id 5" in found.bad_inputs[0]


def test_a_sound_step_is_said_to_be_sound_and_leaves_nothing_behind(tmp_path, net):
    model, state = Net(), torch.get_rng_state()
    found = replay_step(model, incident(tmp_path, net))
    assert not found.reproduced and "depends on the device" in found.to_text()
    assert torch.equal(state, torch.get_rng_state())
    assert not any(module._forward_hooks for module in model.modules())


def test_random_state_of_the_step_is_used(tmp_path):
    class Random(nn.Module):
        def __init__(self):
            super().__init__()
            self.p = nn.Parameter(torch.zeros(1))

        def forward(self, batch):
            return {"loss": (self.p + torch.rand(1)).sum()}

    torch.manual_seed(11)
    kept = incident(tmp_path, Random())
    expected = torch.rand(1)
    torch.manual_seed(99)
    assert replay_step(Random(), kept).losses["loss"] == float(expected)


def test_tensors_are_found_in_structures():
    instances = Instances((4, 4), boxes=Boxes(torch.ones(1, 4)), n=torch.ones(1, dtype=torch.long))
    value = {
        "a": [torch.ones(2), (torch.ones(3), 7)],
        "b": instances,
        "c": ImageList(torch.ones(1, 3, 2, 2), [(2, 2)]),
    }
    assert sorted(t.numel() for t in tensors_in(value)) == [2, 3, 4, 12]


def test_model_that_raises_is_reported(tmp_path, net):
    class Strict(Net):
        def forward(self, batch):
            out = super().forward(batch)
            if not torch.isfinite(out["loss_power"]):
                raise FloatingPointError("my numbers are bad")
            return out

    found = replay_step(Strict(), incident(tmp_path, net, image=300.0))
    assert found.losses == {} and "my numbers are bad" in found.to_text() and found.forward.name == "middle"


def test_what_the_guard_keeps_replays(tmp_path, net):
    record = {"image_id": 1, "image": torch.full((3, 2, 2), 300.0)}
    trainer = SimpleTrainer(net, [[record]], torch.optim.SGD(net.parameters(), lr=0.1))
    trainer.guard = StepGuard(output_dir=str(tmp_path))
    with pytest.raises(DivergenceError):
        trainer.train(0, 1)
    (path,) = (tmp_path / "bad_batches").iterdir()
    assert replay_step(Net(), load_incident(str(path))).forward.name == "middle"


def test_command(worker, tiny_cfg, tmp_path, capsys):
    cfg = tiny_cfg("SOLVER.BASE_LR", 1e30, "SOLVER.WARMUP_ITERS", 0)
    with pytest.raises(DivergenceError, match="detectron2 replay"):
        worker.Trainer(cfg).train()
    out = tmp_path / "out"
    assert main(["replay", str(out)]) == 2
    assert "--config-file" in capsys.readouterr().err
    (out / "config.yaml").write_text(cfg.dump())
    assert main(["replay", str(out)]) == 1
    text = capsys.readouterr().out
    assert "first loss that is not finite" in text and "forward: first output" in text
    assert "float32" in text and "image_id" in text
    assert main(["replay", str(tmp_path / "absent.pth")]) == 2
    assert "absent.pth" in capsys.readouterr().err
