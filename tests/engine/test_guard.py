"""What happens when losses are not finite or memory runs out."""

import logging

import pytest
import torch
from torch import nn

from detectron2.engine import SimpleTrainer
from detectron2.engine.safety.guard import DivergenceError, StepGuard
from detectron2.engine.safety.incident import load_incident
from detectron2.structures import Boxes, Instances


class Net(nn.Module):
    """Loss of one image; `poison` in the input makes it not finite, `huge` runs out of memory in batches."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(2, 1)

    def forward(self, batch):
        if len(batch) > 1 and any(d.get("huge") for d in batch):
            raise torch.OutOfMemoryError("tried to allocate 3 GiB")
        x = torch.stack([d["image"].mean((1, 2))[:2] for d in batch])
        y = self.fc(x)
        bad = sum(float("nan") if d.get("poison") else 0.0 for d in batch)
        return {"loss_good": y.square().mean(), "loss_bad": y.abs().mean() + bad}


def record(i, **more):
    instances = Instances((4, 4))
    instances.gt_boxes = Boxes(torch.tensor([[0.0, 0.0, 2.0, 3.0]] * (i + 1)))
    return {"image_id": 100 + i, "file_name": f"pictures/{i}.png", "image": torch.full((3, 4, 4), float(i + 1)),
            "instances": instances, **more}  # fmt: skip


def trainer_for(batches, **guard):
    torch.manual_seed(0)
    net = Net()
    trainer = SimpleTrainer(net, batches, torch.optim.SGD(net.parameters(), lr=0.01))
    trainer.guard = StepGuard(**guard)
    return trainer


def test_report_names_loss_images_rate_and_mend(tmp_path):
    trainer = trainer_for([[record(0)], [record(1, poison=True)]], output_dir=str(tmp_path))
    with pytest.raises(FloatingPointError) as caught:
        trainer.train(0, 2)
    text = str(caught.value)
    for part in ("iteration 1", "first loss_bad", "image_id 101", "pictures/1.png", "2 instances", "0.01",
                 "gradient norm", "SOLVER.BASE_LR", "replay"):  # fmt: skip
        assert part in text, part
    before = trainer_for([[record(0)]])
    before.train(0, 1)
    assert torch.equal(trainer.model.fc.weight, before.model.fc.weight)  # the bad batch touched nothing


def test_batch_is_kept_for_replay(tmp_path):
    trainer = trainer_for([[record(1, poison=True)]], output_dir=str(tmp_path))
    with pytest.raises(DivergenceError):
        trainer.train(0, 1)
    (path,) = (tmp_path / "bad_batches").iterdir()
    kept = load_incident(str(path))
    assert kept["iteration"] == 0 and kept["batch"][0]["file_name"] == "pictures/1.png"
    assert torch.equal(kept["batch"][0]["instances"].gt_boxes.tensor, record(1)["instances"].gt_boxes.tensor)
    net = Net()
    net.load_state_dict(kept["model"])
    assert not torch.isfinite(sum(net(kept["batch"]).values()))  # it happens again


def test_bad_data_is_blamed_on_data():
    broken = record(0)
    broken["image"][0, 0, 0] = float("inf")
    trainer = trainer_for([[broken]])
    with pytest.raises(FloatingPointError, match="the image of image_id 100"):
        trainer.train(0, 1)


def test_skips_up_to_a_number_and_equals_a_run_without_the_bad_ones(caplog):
    good = [[record(0)], [record(1)], [record(2)]]
    bad = [record(5, poison=True)]
    trainer = trainer_for([good[0], bad, good[1], bad, good[2]], max_skips=2)
    with caplog.at_level(logging.ERROR):
        trainer.train(0, 5)
    assert trainer.guard.skipped == 2 and "Iteration 1 is skipped (1 of at most 2)" in caplog.text
    reference = trainer_for(good)
    reference.train(0, 3)
    assert torch.equal(trainer.model.fc.weight, reference.model.fc.weight)
    third = trainer_for([bad, bad, bad], max_skips=2)
    with pytest.raises(FloatingPointError, match="iteration 2"):
        third.train(0, 3)


def test_model_that_raises_itself_is_reported_too():
    class Refuses(Net):
        def forward(self, batch):
            raise FloatingPointError("boxes are not finite")

    trainer = SimpleTrainer(net := Refuses(), [[record(3)]], torch.optim.SGD(net.parameters(), lr=0.1))
    with pytest.raises(DivergenceError, match=r"boxes are not finite(.|\n)*image_id 103"):
        trainer.train(0, 1)


def test_out_of_memory_names_images():
    trainer = trainer_for([[record(0), record(7, huge=True)]])
    with pytest.raises(torch.OutOfMemoryError) as caught:
        trainer.train(0, 1)
    assert "image_id 107" in str(caught.value) and "8 instances" in str(caught.value)
    assert "3 GiB" in str(caught.value)


def test_out_of_memory_in_parts_gives_the_same_step():
    batch = [record(0), record(1)]
    whole = trainer_for([batch])
    whole.train(0, 1)
    parts = trainer_for([[record(0), record(1, huge=True)]], retry_in_parts=True)
    parts.train(0, 1)
    assert torch.allclose(parts.model.fc.weight, whole.model.fc.weight, atol=1e-6)
    assert parts.storage.history("total_loss").latest() == pytest.approx(
        whole.storage.history("total_loss").latest()
    )


def test_other_errors_pass_through():
    class Broken(Net):
        def forward(self, batch):
            raise RuntimeError("shape mismatch")

    trainer = SimpleTrainer(net := Broken(), [[record(3)]], torch.optim.SGD(net.parameters(), lr=0.1))
    with pytest.raises(RuntimeError, match="shape mismatch"):
        trainer.train(0, 1)


def test_evaluation_mode_is_refused():
    trainer = trainer_for([[record(0)]])
    trainer.model.eval()
    with pytest.raises(AssertionError, match=r"model\.train\(\)"):
        trainer.train(0, 1)
