"""R-CNN models, and proposal networks alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor

from detectron2.config import CfgNode, configurable
from detectron2.structures import ImageList, Instances
from detectron2.structures.types import ModelInput, ModelOutput
from detectron2.utils.errors import BadType, BadValue
from detectron2.utils.events import get_event_storage
from detectron2.utils.reexports import passed_on

from .._selection import rows_of
from ..backbone import Backbone, build_backbone
from ..fixed_shapes import CompiledFunctions, Method, Size, padded_instances, padded_truth, size_tensors
from ..postprocessing import detector_postprocess, postprocess_batch
from ..proposal_generator import ProposalGenerator, build_proposal_generator
from ..roi_heads import Heads, build_roi_heads
from ..tensor_inference import Tensors, tensor_method
from ._inputs import ImageModel, ground_truth, output_size
from ._training_pictures import put_proposal_pictures
from .build import META_ARCH_REGISTRY

__all__ = ["GeneralizedRCNN", "ProposalNetwork"]

__getattr__ = passed_on(__name__)

# Methods that are not called where shapes are fixed.
_RPN_METHODS = (
    "forward",
    "label_and_sample_anchors",
    "_subsample_labels",
    "_pairwise_quality",
    "losses",
    "predict_proposals",
)
_HEADS_METHODS = (
    "forward",
    "label_and_sample_proposals",
    "_sample_proposals",
    "_pairwise_quality",
    "_forward_box",
    "_run_stages",
    "_run_stage",
    "_match_and_label_boxes",
    "_create_proposals_from_boxes",
    "_stage_losses",
    "_forward_mask",
    "_forward_keypoint",
)


@META_ARCH_REGISTRY.register()
class GeneralizedRCNN(ImageModel):
    """Faster, Mask, Keypoint and Cascade R-CNN, and Fast R-CNN with precomputed proposals.

    Args:
        backbone: computes feature maps from images.
        proposal_generator: proposes boxes from feature maps; None if the dataset supplies proposals.
        roi_heads: computes detections from proposals.
        pixel_mean, pixel_std: statistics of each channel, in the range of the images.
        input_format: order of the channels, such as "BGR"; needed only for ``vis_period``.
        vis_period: number of iterations between logged images of ground truth and proposals; 0 = never.
        fixed_shapes: train and predict in the fast form, with shapes that depend on no value; see
            :mod:`.fixed_shapes`. It logs no images, and samples have the same distribution but are other ones.
        fixed_sizes: batches are padded to the first of these (height, width) that they fit into, so that there are
            few sizes; if to none, as without them.
    """

    _compiled: CompiledFunctions | None = None

    @configurable
    def __init__(
        self,
        *,
        backbone: Backbone,
        proposal_generator: ProposalGenerator | None,
        roi_heads: Heads,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
        input_format: str | None = None,
        vis_period: int = 0,
        fixed_shapes: bool = False,
        fixed_sizes: Sequence[tuple[int, int]] = (),
    ) -> None:
        super().__init__()
        self.fixed_shapes = fixed_shapes
        self.fixed_sizes = fixed_sizes
        self.backbone = backbone
        self.proposal_generator = proposal_generator
        self.roi_heads = roi_heads
        if vis_period > 0 and input_format is None:
            raise BadValue(
                "vis_period > 0 needs input_format, the order of the channels such as 'BGR', got None"
            )
        self.input_format = input_format
        self.vis_period = vis_period
        self._set_pixel_statistics(pixel_mean, pixel_std)
        if fixed_shapes:
            self.check_fixed_shapes()

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Build the children by their ``build_*`` functions and read the other arguments from the config."""
        backbone = build_backbone(cfg)
        shapes = backbone.output_shape()
        return {
            "backbone": backbone,
            "proposal_generator": build_proposal_generator(cfg, shapes),
            "roi_heads": build_roi_heads(cfg, shapes),
            "input_format": cfg.INPUT.FORMAT,
            "vis_period": cfg.VIS_PERIOD,
            "pixel_mean": cfg.MODEL.PIXEL_MEAN,
            "pixel_std": cfg.MODEL.PIXEL_STD,
            "fixed_shapes": cfg.MODEL.FIXED_SHAPES,
        }

    def visualize_training(self, batched_inputs: list[ModelInput], proposals: list[Instances]) -> None:
        """Log an image of ground truth beside the best proposals, for the first image of a batch."""
        put_proposal_pictures(batched_inputs, proposals, self.input_format or "BGR")

    def preprocess_image(self, batched_inputs: list[ModelInput]) -> ImageList:
        """Normalise, pad and batch the images [C, H, W] under the key ``image``."""
        return self._make_batch(batched_inputs)

    def forward(self, batched_inputs: list[ModelInput]) -> dict[str, Tensor] | list[ModelOutput]:
        """Compute losses in training, detections in evaluation.

        Args:
            batched_inputs: for each image a dict with ``image`` ([C, H, W] in ``input_format``), in training
                ``instances`` (ground truth), ``proposals`` if the model has no proposal generator, and optionally
                ``height`` and ``width``, the requested output size.

        Returns:
            In training, a dict of scalar losses by name. In evaluation, a dict for each image, whose ``instances`` have
            ``pred_boxes``, ``scores``, ``pred_classes`` and, if the model has such heads, ``pred_masks`` and
            ``pred_keypoints``.
        """
        if not self.training:
            return self.inference(batched_inputs)
        if self.fixed_shapes:
            return self._fixed_losses(batched_inputs)
        images = self.preprocess_image(batched_inputs)
        targets = ground_truth(batched_inputs, self.device, required=False)
        features = self.backbone(images.tensor)
        proposals, losses = self._propose(batched_inputs, images, features, targets)
        _, head_losses = self.roi_heads(images, features, proposals, targets)
        if self.vis_period > 0 and get_event_storage().iter % self.vis_period == 0:
            self.visualize_training(batched_inputs, proposals)
        return {**head_losses, **losses}

    def check_fixed_shapes(self) -> None:
        """Raise TypeError or ValueError if a part of the model has no form with fixed shapes."""
        if self.proposal_generator is None:
            raise BadValue("given proposals have no form with fixed shapes; set MODEL.FIXED_SHAPES = False")
        try:
            tensor_method(self, "loss_tensors", ("forward", "inference", "_postprocess"))
            tensor_method(self.proposal_generator, "loss_tensors", _RPN_METHODS)
            tensor_method(self.roi_heads, "loss_tensors", _HEADS_METHODS)
        except TypeError as error:
            raise BadType(f"{error}; or set MODEL.FIXED_SHAPES = False") from None

    def compile(self, *args: object, **kwargs: object) -> None:
        """Compile as ``nn.Module.compile`` does; in the fast form, whole training steps and predictions.

        There, each size of a batch is compiled on its own; see ``fixed_sizes``.
        """
        if self.fixed_shapes:
            self._compiled = CompiledFunctions(**{**kwargs, "dynamic": False})
        else:
            super().compile(*args, **kwargs)  # type: ignore[no-untyped-call]

    def _run(self, name: str, *tensors: Size | Tensor | Tensors) -> Tensors:
        """Call a method that takes and returns tensors alone, compiled if the model is."""
        method: Method = getattr(type(self), name)
        if self._compiled is None:
            return method(self, *tensors)
        # CUDA graphs write the results of all steps to the same place.
        return {name: x.clone() for name, x in self._compiled(method)(self, *tensors).items()}

    def _fixed_losses(self, batched_inputs: list[ModelInput]) -> Tensors:
        """Compute losses as :meth:`forward`, with shapes that depend on no value."""
        self.check_fixed_shapes()
        images = self.preprocess_image(batched_inputs)
        targets = ground_truth(batched_inputs, self.device)
        height, width = images.tensor.shape[-2:]
        needed = [getattr(self.roi_heads, f"{kind}_on", False) for kind in ("mask", "keypoint")]
        truth = padded_truth(targets or [], height, width, *needed)
        size = size_tensors(images.image_sizes, self.device)
        scalars = self._run("loss_tensors", images.tensor, size, truth)
        for name in [name for name in scalars if "/" in name]:
            get_event_storage().put_scalar(name, scalars.pop(name))
        return scalars

    def loss_tensors(self, images: Tensor, size: Size, truth: Tensors) -> Tensors:
        """Compute the losses of a batch as a function of tensors alone; see :mod:`.fixed_shapes`.

        Args:
            images: normalised and padded, [N, C, H, W].
            size: height and width of each image without padding, tensors [N].
            truth: ground truth, see :func:`.padded_truth`.

        Returns:
            Losses, and with a slash in their names figures for the log.
        """
        features = self.backbone(images)
        generator, heads = cast(Any, self.proposal_generator), cast(Any, self.roi_heads)
        (boxes, _, real), scalars = generator.loss_tensors(features, size, truth)
        truth = {**truth, "sizes": torch.stack(cast(Any, size), dim=1)}
        return {**heads.loss_tensors(features, boxes, real, truth), **scalars}

    def _propose(
        self,
        batched_inputs: list[ModelInput],
        images: ImageList,
        features: dict[str, Tensor],
        targets: list[Instances] | None,
    ) -> tuple[list[Instances], dict[str, Tensor]]:
        """Return proposals, generated or given in the inputs, and the losses in training."""
        if self.proposal_generator is None:
            return self._given_proposals(batched_inputs), {}
        return self.proposal_generator(images, features, targets)

    def _given_proposals(self, batched_inputs: list[ModelInput]) -> list[Instances]:
        missing = [i for i, item in enumerate(batched_inputs) if "proposals" not in item]
        if missing:
            raise BadValue(
                f"this model has no proposal generator, so every input needs 'proposals'; inputs {missing} lack "
                "them (see DATASETS.PROPOSAL_FILES_TRAIN and PROPOSAL_FILES_TEST)"
            )
        return [item["proposals"].to(self.device) for item in batched_inputs]

    def inference(
        self,
        batched_inputs: list[ModelInput],
        detected_instances: list[Instances] | None = None,
        do_postprocess: bool = True,
    ) -> Any:
        """Run inference.

        Args:
            batched_inputs: as in :meth:`forward`.
            detected_instances: if given, only masks and keypoints are predicted, for the ``pred_boxes`` and
                ``pred_classes`` of these Instances, in input coordinates.
            do_postprocess: whether to rescale results to the requested size and paste masks into the image.

        Returns:
            The result of :meth:`forward` or, without ``do_postprocess``, a list of Instances in input coordinates.

        Raises:
            RuntimeError: in training mode.
        """
        if self.training:
            raise RuntimeError("inference() needs a model in evaluation mode; call .eval() first")
        images = self.preprocess_image(batched_inputs)
        if self.fixed_shapes and detected_instances is None:
            size = size_tensors(images.image_sizes, self.device)
            found = self._run("_detect_in_batch", images.tensor, size)
            sizes = [output_size(*pair) for pair in zip(batched_inputs, images.image_sizes)]
            padded = padded_instances(found, images.image_sizes)
            if not do_postprocess:
                return [x[rows] for x, rows in zip(padded, rows_of(found["valid"].unbind()))]
            return [{"instances": x} for x in postprocess_batch(padded, sizes, found["valid"].unbind())]
        features = self.backbone(images.tensor)
        if detected_instances is not None:
            given = [x.to(self.device) for x in detected_instances]
            results = self.roi_heads.forward_with_given_boxes(features, given)
        else:
            proposals, _ = self._propose(batched_inputs, images, features, None)
            results, _ = self.roi_heads(images, features, proposals, None)
        if not do_postprocess:
            return results
        return type(self)._postprocess(results, batched_inputs, images.image_sizes)

    def check_tensor_form(self) -> None:
        """Check that all parts have a tensor form; see :class:`.TensorInference`."""
        tensor_method(self.proposal_generator, "propose_tensors")
        tensor_method(self.roi_heads, "detect_tensors")

    def predict_tensors(self, images: Tensor) -> Tensors:
        """Detect the same number of objects in each of N images [N, C, H, W]; see :class:`.TensorInference`."""
        return self._detect_tensors(self.features_of(images), (images.shape[-2], images.shape[-1]))

    def _detect_in_batch(self, images: Tensor, size: Size) -> Tensors:
        """Detect objects in normalised and padded images; arguments as for :meth:`loss_tensors`."""
        return self._detect_tensors(self.backbone(images), size)

    def _detect_tensors(self, features: Tensors, size: Size) -> Tensors:
        boxes, _, real = tensor_method(self.proposal_generator, "propose_tensors")(features, size)
        return tensor_method(self.roi_heads, "detect_tensors")(features, boxes, real, size)

    @staticmethod
    def _postprocess(
        instances: list[Instances], batched_inputs: list[ModelInput], image_sizes: list[tuple[int, int]]
    ) -> list[ModelOutput]:
        """Rescale results to the requested sizes, as a list of dicts."""
        sizes = [output_size(item, size) for item, size in zip(batched_inputs, image_sizes)]
        return [{"instances": found} for found in postprocess_batch(instances, sizes)]


@META_ARCH_REGISTRY.register()
class ProposalNetwork(ImageModel):
    """A backbone and a proposal generator.

    Args:
        backbone: computes feature maps from images.
        proposal_generator: proposes boxes from feature maps.
        pixel_mean, pixel_std: statistics of each channel, in the range of the images.
    """

    @configurable
    def __init__(
        self,
        *,
        backbone: Backbone,
        proposal_generator: ProposalGenerator,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.proposal_generator = proposal_generator
        self._set_pixel_statistics(pixel_mean, pixel_std)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Build the children by their ``build_*`` functions; read the rest from ``MODEL.PIXEL_*``."""
        backbone = build_backbone(cfg)
        return {
            "backbone": backbone,
            "proposal_generator": build_proposal_generator(cfg, backbone.output_shape()),
            "pixel_mean": cfg.MODEL.PIXEL_MEAN,
            "pixel_std": cfg.MODEL.PIXEL_STD,
        }

    def forward(self, batched_inputs: list[ModelInput]) -> dict[str, Tensor] | list[ModelOutput]:
        """Compute losses in training, proposals in evaluation.

        Args:
            batched_inputs: as in :meth:`GeneralizedRCNN.forward`.

        Returns:
            In training, a dict of losses. In evaluation, a dict for each image, whose ``proposals`` are Instances with
            ``proposal_boxes``, rescaled to the requested size, and ``objectness_logits``.
        """
        images = self._make_batch(batched_inputs)
        features = self.backbone(images.tensor)
        targets = ground_truth(batched_inputs, self.device, required=self.training)
        proposals, losses = self.proposal_generator(images, features, targets)
        if self.training:
            return losses
        return [
            {"proposals": detector_postprocess(found, *output_size(item, size))}
            for found, item, size in zip(proposals, batched_inputs, images.image_sizes)
        ]

    def check_tensor_form(self) -> None:
        """Check that the proposal generator has a tensor form; see :class:`.TensorInference`."""
        tensor_method(self.proposal_generator, "propose_tensors")

    def predict_tensors(self, images: Tensor) -> Tensors:
        """Propose the same number of boxes in each of N images [N, C, H, W]; see :class:`.TensorInference`."""
        size = (images.shape[-2], images.shape[-1])
        propose = tensor_method(self.proposal_generator, "propose_tensors")
        boxes, logits, real = propose(self.features_of(images), size)
        return {"boxes": boxes, "logits": logits, "valid": real}
