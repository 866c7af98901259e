"""ImageNet classification with torchvision's ResNet-50: the engine serves tasks that have nothing to do with boxes.

Everything that is particular to the task is in this file. The folder of the data is an override::

    tools/lazyconfig_train_net.py --config-file configs/Misc/torchvision_imagenet_R_50.py \
        dataloader.train.dataset.root=/datasets/imagenet

Any folder with one sub-folder per class serves too: override ``dataloader.train.dataset`` and
``dataloader.test.dataset`` with ``torchvision.datasets.ImageFolder``.
"""

import torch
import torch.nn.functional as F
import torchvision.transforms as T
from torch import nn
from torchvision.datasets import ImageNet
from torchvision.models.resnet import Bottleneck, ResNet

from detectron2.config import LazyCall as L
from detectron2.data.samplers import TrainingSampler
from detectron2.evaluation import DatasetEvaluator
from detectron2.solver import WarmupParamScheduler
from detectron2.solver.build import get_default_optimizer_params
from detectron2.solver.param_scheduler import MultiStepParamScheduler
from detectron2.utils import comm

from ..common.train import train


def build_data_loader(dataset, batch_size, num_workers, training=True):
    """Batches of (images, labels); endless and shuffled in training."""
    return torch.utils.data.DataLoader(
        dataset,
        batch_size=batch_size,
        sampler=TrainingSampler(len(dataset)) if training else None,
        num_workers=num_workers,
        pin_memory=torch.cuda.is_available(),
    )


class ClassificationNet(nn.Module):
    """Cross-entropy in training, class scores in evaluation."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    @property
    def device(self):
        return next(self.model.parameters()).device

    def forward(self, inputs):
        images, labels = inputs
        scores = self.model(images.to(self.device))
        return F.cross_entropy(scores, labels.to(self.device)) if self.training else scores


class ClassificationAcc(DatasetEvaluator):
    """Share of images whose best class is right, in percent."""

    def reset(self):
        self.correct = self.seen = 0

    def process(self, inputs, outputs):
        labels = inputs[1].to(outputs.device)
        self.correct += int((outputs.argmax(dim=1) == labels).sum())
        self.seen += len(labels)

    def evaluate(self):
        counts = comm.all_gather((self.correct, self.seen))
        correct, seen = (sum(column) for column in zip(*counts))
        return {"accuracy": 100.0 * correct / seen if seen else float("nan")}


_normalize = L(T.Normalize)(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))

dataloader = dict()

dataloader["train"] = L(build_data_loader)(
    dataset=L(ImageNet)(
        root="/path/to/imagenet",
        split="train",
        transform=L(T.Compose)(
            transforms=[
                L(T.RandomResizedCrop)(size=224),
                L(T.RandomHorizontalFlip)(),
                T.ToTensor(),
                _normalize,
            ]
        ),
    ),
    batch_size=256 // 8,  # per GPU
    num_workers=4,
    training=True,
)

dataloader["test"] = L(build_data_loader)(
    dataset=L(ImageNet)(
        root="${...train.dataset.root}",
        split="val",
        transform=L(T.Compose)(
            transforms=[L(T.Resize)(size=256), L(T.CenterCrop)(size=224), T.ToTensor(), _normalize]
        ),
    ),
    batch_size=256 // 8,
    num_workers=4,
    training=False,
)

dataloader["evaluator"] = L(ClassificationAcc)()

# An object, not a description: to use another network, override model.model with a call.
model = L(ClassificationNet)(model=ResNet(block=Bottleneck, layers=[3, 4, 6, 3], zero_init_residual=True))

optimizer = L(torch.optim.SGD)(
    params=L(get_default_optimizer_params)(), lr=0.1, momentum=0.9, weight_decay=1e-4
)

# 100 epochs of 1,281,167 images in batches of 256; milestones are in epochs, schedules only need their ratios.
lr_multiplier = L(WarmupParamScheduler)(
    scheduler=L(MultiStepParamScheduler)(values=[1.0, 0.1, 0.01, 0.001], milestones=[30, 60, 90, 100]),
    warmup_length=1 / 100,
    warmup_factor=0.1,
)

train.init_checkpoint = None
train.max_iter = 100 * 1281167 // 256
