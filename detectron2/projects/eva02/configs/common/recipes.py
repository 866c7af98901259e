"""Steps that lead from EVA-02-B on COCO to the other recipes."""

from functools import partial

from detectron2.config import LazyCall as L
from detectron2.data.detection_utils import get_fed_loss_cls_weights
from detectron2.data.samplers import RepeatFactorTrainingSampler
from detectron2.evaluation import LVISEvaluator
from detectron2.projects.eva02 import get_vit_lr_decay_rate
from detectron2.solver.param_scheduler import CosineParamScheduler


def windows(model, global_blocks, size=16):
    """Let evenly spread blocks see the whole map, and the others windows of ``size`` x ``size`` patches."""
    net = model.backbone.net
    period = net.depth // global_blocks
    net.window_size = size
    net.window_block_indexes = [i for i in range(net.depth) if (i + 1) % period]


def large(model, optimizer, drop_path=0.4):
    """Take EVA-02-L in place of EVA-02-B."""
    model.backbone.net.update(embed_dim=1024, depth=24, num_heads=16, drop_path_rate=drop_path)
    optimizer.params.lr_factor_func = partial(get_vit_lr_decay_rate, lr_decay_rate=0.8, num_layers=24)


def images_of(side, model, dataloader):
    """Train and test on squares of ``side`` pixels."""
    model.backbone.square_pad = model.backbone.net.img_size = side
    _, scale, crop = dataloader.train.mapper.augmentations
    scale.update(target_height=side, target_width=side)
    crop.crop_size = (side, side)
    dataloader.test.mapper.augmentations[0].update(short_edge_length=side, max_size=side)


def lvis(model, dataloader):
    """Train on LVIS v1: federated loss, images of rare classes more often, 300 detections per image."""
    dataloader.train.dataset.names = "lvis_v1_train"
    dataloader.train.sampler = L(RepeatFactorTrainingSampler)(
        repeat_factors=L(RepeatFactorTrainingSampler.repeat_factors_from_category_frequency)(
            dataset_dicts="${dataloader.train.dataset}", repeat_thresh=0.001
        )
    )
    dataloader.test.dataset.names = "lvis_v1_val"
    dataloader.evaluator = L(LVISEvaluator)(dataset_name="${..test.dataset.names}", max_dets_per_image=300)
    model.roi_heads.num_classes = 1203
    for predictor in model.roi_heads.box_predictors:
        predictor.update(
            test_score_thresh=0.02,
            test_topk_per_image=300,
            use_sigmoid_ce=True,
            use_fed_loss=True,
            get_fed_loss_cls_weights=partial(get_fed_loss_cls_weights, "lvis_v1_train", 0.5),
        )


def steps(count, train, lr_multiplier, warmup=1000, period=None):
    """Train ``count`` steps, with a tenth of the rate after 80 % and again after 90 % of them."""
    train.max_iter = count
    lr_multiplier.scheduler.update(milestones=[count * 8 // 10, count * 9 // 10], num_updates=count)
    lr_multiplier.warmup_length = warmup / count
    if period is not None:
        train.eval_period = train.checkpointer.period = period


def constant(count, train, lr_multiplier):
    """Train ``count`` steps at one rate after a warm-up over 1 % of them, and average the weights."""
    train.max_iter = count
    train.model_ema.enabled = True
    lr_multiplier.scheduler = L(CosineParamScheduler)(start_value=1, end_value=1)
    lr_multiplier.warmup_length = 0.01
