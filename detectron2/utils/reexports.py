"""Offer names in other modules than those that define them."""

import importlib
from collections.abc import Callable, Iterable
from typing import Any

__all__ = ["passed_on", "publish"]


# Module -> where its re-exported names are defined, both without ``detectron2.``.
_PASSED_ON = {
    "config.compat": ("config.config.CfgNode as CN",),
    "config.instantiate": ("utils.registry.locate",),
    "data.build": (
        "data.common.AspectRatioGroupedDataset",
        "structures.boxes.BoxMode",
        "data.samplers.distributed_sampler.RandomSubsetTrainingSampler",
        "data.samplers.distributed_sampler.RepeatFactorTrainingSampler",
        "data.common.ToIterableDataset",
        "utils.comm.get_world_size",
        "utils.logger.log_first_n",
        "utils.env.seed_all_rng",
    ),
    "data.catalog": ("utils.logger.log_first_n",),
    "data.common": ("utils.serialize.PicklableWrapper",),
    "data.datasets.coco": (
        "structures.boxes.BoxMode",
        "structures.boxes.Boxes",
        "structures.masks.PolygonMasks",
        "structures.rotated_boxes.RotatedBoxes",
    ),
    "data.detection_utils": (
        "structures.masks.BitMasks",
        "structures.boxes.Boxes",
        "structures.instances.Instances",
        "structures.keypoints.Keypoints",
        "structures.masks.PolygonMasks",
        "structures.rotated_boxes.RotatedBoxes",
    ),
    "data.transforms.augmentation_impl": (
        "data.transforms.augmentation.Augmentation",
        "structures.boxes.Boxes",
        "data.transforms.transform.ExtentTransform",
        "data.transforms.transform.ResizeTransform",
        "data.transforms.transform.RotationTransform",
        "structures.boxes.pairwise_iou",
    ),
    "engine": (
        "engine.hooks.AutogradProfiler",
        "engine.hooks.BestCheckpointer",
        "engine.hooks.CallbackHook",
        "engine.hooks.EvalHook",
        "engine.hooks.IterationTimer",
        "engine.hooks.LRScheduler",
        "engine.hooks.PeriodicCheckpointer",
        "engine.hooks.PeriodicWriter",
        "engine.hooks.PreciseBN",
        "engine.hooks.TorchMemoryStats",
        "engine.hooks.TorchProfiler",
    ),
    "engine.defaults": (
        "engine.train_loop.AMPTrainer",
        "config.config.CfgNode",
        "utils.events.CommonMetricPrinter",
        "evaluation.evaluator.DatasetEvaluator",
        "checkpoint.detection_checkpoint.DetectionCheckpointer",
        "utils.events.JSONWriter",
        "config.lazy.LazyConfig",
        "engine.train_loop.SimpleTrainer",
        "data.transforms as T",
        "utils.events.TensorboardXWriter",
        "engine.train_loop.TrainerBase",
        "data.build.build_detection_test_loader",
        "data.build.build_detection_train_loader",
        "solver.build.build_lr_scheduler",
        "modeling.meta_arch.build.build_model",
        "solver.build.build_optimizer",
        "utils.collect_env.collect_env_info",
        "utils.comm",
        "engine.hooks",
        "evaluation.evaluator.inference_on_dataset",
        "evaluation.testing.print_csv_format",
        "utils.env.seed_all_rng",
        "evaluation.testing.verify_results",
    ),
    "engine.hooks": (
        "utils.events.EventStorage",
        "utils.events.EventWriter",
        "engine.train_loop.HookBase",
        "solver.lr_scheduler.LRMultiplier",
        "utils.comm",
        "evaluation.testing.flatten_results_dict",
    ),
    "engine.train_loop": ("utils.events.EventStorage",),
    "evaluation.cityscapes_evaluation": ("utils.comm",),
    "evaluation.coco_evaluation": ("utils.comm",),
    "evaluation.lvis_evaluation": ("utils.comm",),
    "evaluation.panoptic_evaluation": ("utils.comm",),
    "export.torchscript": (
        "export.torchscript_patch.freeze_training_mode",
        "export.torchscript_patch.patch_instances",
    ),
    "layers.batch_norm": (
        "utils.comm",
        "utils.env",
    ),
    "model_zoo.model_zoo": (
        "config.config.CfgNode",
        "config.config.get_cfg",
        "config.instantiate",
    ),
    "modeling.backbone.mvit": (
        "modeling.backbone.utils.add_decomposed_rel_pos",
        "modeling.backbone.utils.window_partition",
    ),
    "modeling.backbone.regnet": (
        "layers.shape_spec.ShapeSpec",
        "layers.batch_norm.get_norm",
    ),
    "modeling.backbone.resnet": (
        "layers.wrappers.Conv2d",
        "layers.deform_conv.DeformConv",
        "layers.deform_conv.ModulatedDeformConv",
        "layers.batch_norm.get_norm",
    ),
    "modeling.backbone.vit": ("modeling.backbone.utils.add_decomposed_rel_pos",),
    "modeling.meta_arch.fcos": ("layers.nms.batched_nms",),
    "modeling.meta_arch.panoptic_fpn": ("structures.image_list.ImageList",),
    "modeling.meta_arch.rcnn": (
        "data.detection_utils.convert_image_to_rgb",
        "utils.logger.log_first_n",
        "layers.wrappers.move_device_like",
    ),
    "modeling.meta_arch.retinanet": ("layers.nms.batched_nms",),
    "modeling.meta_arch.semantic_seg": ("structures.image_list.ImageList",),
    "modeling.poolers": (
        "utils.tracing.assert_fx_safe",
        "layers.wrappers.cat",
        "utils.tracing.is_fx_tracing",
        "layers.wrappers.nonzero_tuple",
        "layers.wrappers.shapes_to_tensor",
    ),
    "modeling.proposal_generator.build": (
        "modeling.proposal_generator.rpn",
        "modeling.proposal_generator.rrpn",
    ),
    "modeling.proposal_generator.proposal_utils": (
        "layers.nms.batched_nms",
        "layers.wrappers.cat",
        "layers.wrappers.move_device_like",
    ),
    "modeling.proposal_generator.rpn": ("layers.wrappers.Conv2d",),
    "modeling.proposal_generator.rrpn": (
        "layers.nms.batched_nms_rotated",
        "layers.wrappers.cat",
    ),
    "modeling.roi_heads.cascade_rcnn": ("modeling.roi_heads.fast_rcnn.fast_rcnn_inference",),
    "modeling.roi_heads.fast_rcnn": (
        "structures.boxes.Boxes",
        "layers.nms.batched_nms",
        "utils.events.get_event_storage",
        "layers.wrappers.nonzero_tuple",
    ),
    "modeling.sampling": ("layers.wrappers.nonzero_tuple",),
    "modeling.roi_heads.mask_head": ("layers.wrappers.move_device_like",),
    "modeling.roi_heads.rotated_fast_rcnn": (
        "modeling.poolers.ROIPooler",
        "modeling.proposal_generator.proposal_utils.add_ground_truth_to_proposals",
        "layers.nms.batched_nms_rotated",
        "utils.events.get_event_storage",
    ),
    "modeling.test_time_augmentation": ("modeling.roi_heads.fast_rcnn.fast_rcnn_inference_single_image",),
    "utils.analysis": ("export.flatten.TracingAdapter",),
    "utils.testing": ("model_zoo",),
    "utils.video_visualizer": (
        "utils.visualizer.ColorMode",
        "structures.instances.Instances",
        "utils.visualizer.Visualizer",
        "utils.colormap.random_color",
        "utils.colormap.random_colors",
    ),
    "utils.visualizer": (
        "structures.masks.BitMasks",
        "structures.boxes.BoxMode",
        "structures.boxes.Boxes",
        "structures.keypoints.Keypoints",
        "structures.masks.PolygonMasks",
        "structures.rotated_boxes.RotatedBoxes",
        "utils.colormap.random_color",
    ),
}


def passed_on(module: str, entries: Iterable[str] = ()) -> Callable[[str], Any]:
    """Return a ``__getattr__`` for a module that re-exports names.

    Names are looked up on first use, so that a module can re-export names of higher layers.

    Args:
        module: ``__name__`` of the module.
        entries: where the names are defined, for modules that are not in the table above, such as those of projects.
    """
    homes = {}
    for entry in entries or _PASSED_ON[module.removeprefix("detectron2.")]:
        home, _, name = entry.partition(" as ")
        homes[name or home.rpartition(".")[2]] = f"detectron2.{home}"

    def find(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        owner, _, last = homes[name].rpartition(".")
        found = getattr(importlib.import_module(owner), last, None)
        return importlib.import_module(homes[name]) if found is None else found

    return find


def publish(module: str, *objects: object) -> None:
    """Set ``__module__`` of classes and functions that are defined in another file.

    Pickles, saved configs and documentation refer to objects by their ``__module__``, which must not change when the
    definition moves to another file.

    Args:
        module: dotted path of the public module, usually ``__name__``.
        *objects: classes or functions.
    """
    for item in objects:
        item.__module__ = module
