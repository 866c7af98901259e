"""Public path of the helpers for tests; the code is in ``detectron2/model_zoo/testing.py``."""

from detectron2.model_zoo.testing import (
    Boxes,
    CfgNode,
    DatasetCatalog,
    Instances,
    LazyConfig,
    ROIMasks,
    assert_instances_allclose,
    build_model,
    convert_scripted_instances,
    get_model_no_weights,
    get_sample_coco_image,
    has_dynamic_axes,
    instantiate,
    min_torch_version,
    random_boxes,
    read_image,
    register_custom_op_onnx_export,
    reload_lazy_config,
    reload_script_model,
    skipIfOnCPUCI,
    skipIfUnsupportedMinOpsetVersion,
    skipIfUnsupportedMinTorchVersion,
    unregister_custom_op_onnx_export,
)

from .reexports import passed_on

__all__ = [
    "Boxes",
    "CfgNode",
    "DatasetCatalog",
    "Instances",
    "LazyConfig",
    "ROIMasks",
    "assert_instances_allclose",
    "build_model",
    "convert_scripted_instances",
    "get_model_no_weights",
    "get_sample_coco_image",
    "has_dynamic_axes",
    "instantiate",
    "min_torch_version",
    "random_boxes",
    "read_image",
    "register_custom_op_onnx_export",
    "reload_lazy_config",
    "reload_script_model",
    "skipIfOnCPUCI",
    "skipIfUnsupportedMinOpsetVersion",
    "skipIfUnsupportedMinTorchVersion",
    "unregister_custom_op_onnx_export",
]

__getattr__ = passed_on(__name__)
