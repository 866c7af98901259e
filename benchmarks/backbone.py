"""What Winograd's convolutions, folded batch norms and channels-last bring to CPU inference of ResNet-50 with FPN.

    python benchmarks/backbone.py [--rounds 5] [--size 480 640] [--threads 1]

All variants take turns in one process; the ratio of the shortest processor times to that of the network as it is built is
what counts. "torch's convolutions" are those without ``detectron2.layers.winograd``.
"""

import argparse
import copy
import statistics
import time
from unittest import mock

import torch

from detectron2.config import get_cfg
from detectron2.layers import FrozenBatchNorm2d
from detectron2.modeling.backbone import build_backbone, optimize_for_inference


def build() -> torch.nn.Module:
    cfg = get_cfg()
    cfg.MODEL.BACKBONE.NAME = "build_resnet_fpn_backbone"
    cfg.MODEL.RESNETS.OUT_FEATURES = ["res2", "res3", "res4", "res5"]
    cfg.MODEL.FPN.IN_FEATURES = ["res2", "res3", "res4", "res5"]
    torch.manual_seed(0)
    net = build_backbone(cfg).eval()
    with torch.no_grad():  # as after training: norms that do something, activations of the order of one
        for name, buffer in net.named_buffers():
            if name.endswith("running_var"):
                buffer.uniform_(0.5, 1.5)
            elif name.endswith("conv3.norm.weight"):
                buffer.fill_(0.3)
    return net


def with_norms_as_layers(net: torch.nn.Module) -> torch.nn.Module:
    """A copy whose frozen norms are passes of their own, as they would be without folding at each call."""
    net = copy.deepcopy(net)
    for module in net.modules():
        norm = getattr(module, "norm", None)
        if isinstance(norm, FrozenBatchNorm2d):  # hooks keep a norm a layer
            norm.register_forward_hook(lambda module, given, result: None)
    return net


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--size", type=int, nargs=2, default=(480, 640))
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    net = build()
    plain = mock.patch("detectron2.layers.wrappers.winograd_pays", return_value=False)
    variants = {
        "as built": net,
        "norms as layers": with_norms_as_layers(net),
        "folded": optimize_for_inference(net, channels_last=False),
        "channels-last": (last := optimize_for_inference(net, fold=False)),
        "folded, channels-last": optimize_for_inference(net),
        "torch's convolutions": plain(lambda x, *_: net(x)),
        "these, channels-last": plain(lambda x, *_: last(x)),
    }
    image = torch.randn(1, 3, *args.size)
    times: dict[str, list[float]] = {name: [] for name in variants}
    with torch.inference_mode():
        want = net(image)
        for name, variant in variants.items():
            error = max(float((want[k] - v).abs().max()) for k, v in variant(image).items())
            print(f"{name:24s} largest difference of a feature {error:.1e}")
        for _ in range(args.rounds):
            for name, variant in variants.items():
                start = time.process_time()
                variant(image)
                times[name].append(time.process_time() - start)
    built = min(times["as built"])
    print(f"processor time, {torch.get_num_threads()} threads, images of {args.size[0]} x {args.size[1]}")
    for name, values in times.items():
        best, median = min(values), statistics.median(values)
        print(
            f"{name:24s} {1000 * best:6.0f} ms (median {1000 * median:.0f})   {built / best:.2f} times as fast as built"
        )


if __name__ == "__main__":
    main()
