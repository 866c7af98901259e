"""Usage: sharding_worker.py FOLDER ACTION PROCESSES; see test_sharding.py."""

import sys

import torch
from torch import nn

from detectron2.engine import SimpleTrainer, launch
from detectron2.engine.sharding import full_state_dict, load_sharded, save_sharded, shard_model
from detectron2.utils import comm


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.backbone = nn.Module()
        self.backbone.blocks = nn.ModuleList([nn.Linear(6, 6) for _ in range(3)])
        self.head = nn.Linear(6, 1)

    def forward(self, x):
        for block in self.backbone.blocks:
            x = block(x).tanh()
        return {"loss": self.head(x).square().mean()}


def data(first, last):
    """Batches of 4, of which each process takes its share."""
    size = comm.get_world_size()
    for step in range(first, last):
        batch = torch.randn(4, 6, generator=torch.Generator().manual_seed(step))
        yield batch.chunk(size)[comm.get_rank()]


def main(folder, action):
    torch.set_num_threads(1)
    net = Net()
    if comm.get_world_size() > 1:
        names = shard_model(net)
        assert names == [f"backbone.blocks.{i}" for i in range(3)], names
        local = sum(p.to_local().numel() for p in net.parameters())
        assert local < 0.7 * sum(p.numel() for p in net.parameters())
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.01)
    start, end = {"whole": (0, 6), "first": (0, 3), "second": (3, 6)}[action]
    if action == "second":
        assert load_sharded(f"{folder}/shards", net, optimizer) == {"iteration": 3}
    SimpleTrainer(net, data(start, end), optimizer).train(start, end)
    if action == "first":
        save_sharded(f"{folder}/shards", net, optimizer, {"iteration": 3})
    weights = full_state_dict(net)
    if comm.is_main_process():
        torch.save(weights, f"{folder}/{action}_{comm.get_world_size()}.pth")


if __name__ == "__main__":
    launch(main, int(sys.argv[3]), args=(sys.argv[1], sys.argv[2]))
