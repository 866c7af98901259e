"""Whole models as functions from tensors to tensors, for ``torch.export`` and ``torch.compile``.

Models take and return dicts, ``Instances`` and lists whose lengths depend on the data, which a graph cannot represent.
:class:`TensorInference` runs the same parts on plain tensors: every count is fixed, and a mask says which rows are
real. The results equal those of the model.

N images of one size, P proposals, D detections, M = side of a mask.

Example:
    >>> graph = torch.export.export(
    ...     TensorInference(model), (torch.rand(3, 480, 640) * 255,),
    ...     dynamic_shapes={"image": {1: Dim("height", min=64, max=2048), 2: Dim("width", min=64, max=2048)}},
    ...     strict=True,
    ... )  # doctest: +SKIP
    >>> found = graph.module()(image)  # doctest: +SKIP
    >>> found["boxes"][found["valid"]]  # doctest: +SKIP
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn

from detectron2.layers import paste_masks_in_image
from detectron2.structures import Boxes, Instances, RotatedBoxes
from detectron2.utils.errors import BadType

__all__ = ["TensorInference", "Tensors", "outputs_to_instances", "tensor_method"]

Tensors = dict[str, Tensor]

# Outputs of this package's models; any other name comes from a user's head.
_NAMES_OF_OUTPUTS = {
    *("boxes", "scores", "classes", "valid", "masks", "keypoints", "logits"),
    *("sem_seg", "panoptic_seg", "thing_segments", "stuff_segments", "query_classes", "query_segments"),
}


class TensorInference(nn.Module):
    """Runs a model as a function from images to tensors of fixed counts. Inference only.

    Each part of the model implements its own tensor form; yours can do the same:

    * a model by ``predict_tensors(images) -> outputs``;
    * a proposal generator of an R-CNN by ``propose_tensors(features, size) -> (boxes, logits, real)``,
      see :meth:`.RPN.propose_tensors`;
    * its heads by ``detect_tensors(features, boxes, real, size) -> outputs``,
      see :meth:`.StandardROIHeads.detect_tensors`; override ``describe_tensors`` to add branches;
    * box predictors by ``decode_tensors`` and ``select_tensors``, see :class:`.FastRCNNOutputLayers`;
    * mask and keypoint heads by ``predict_tensors(x, boxes, classes)``, see :meth:`.BaseMaskRCNNHead.predict_tensors`.

    If a part has a method ``check_tensor_form()``, it may raise an error there.

    Args:
        model: GeneralizedRCNN (with RPN and standard, cascade or C4 heads), ProposalNetwork, RetinaNet, FCOS,
            SemanticSegmentor, PanopticFPN, or any module with ``predict_tensors``. It is set to evaluation mode.

    Raises:
        TypeError: if the model or one of its parts has no tensor form.
        ValueError: if the model does not limit the number of detections.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        model.eval()
        tensor_method(model, "predict_tensors")
        self.model: Any = model

    def forward(self, image: Tensor) -> Tensors:
        """Run inference.

        Args:
            image: [C, H, W], or [N, C, H, W] for N images of one size, with the channels and range that the model
                expects.

        Returns:
            Tensors in image coordinates, each with a leading N if the input has one:

            * R-CNN and dense models: ``boxes`` [D, 4], or [D, 5] rotated ones, ``scores`` [D], ``classes`` [D] and ``valid`` bool [D], in
              descending order of score; with mask heads ``masks`` [D, M, M], soft masks within the boxes; with
              keypoint heads ``keypoints`` [D, keypoints, 3] (x, y, score); further heads add [D, ...] by name;
            * ProposalNetwork: ``boxes`` [P, 4], ``logits`` [P] and ``valid`` [P];
            * semantic models: ``sem_seg`` [classes, H, W];
            * Mask2Former and MaskDINO: see :meth:`.MaskClassifier.predict_tensors`;
            * PanopticFPN: all of these, ``panoptic_seg`` int32 [H, W], and the segment ids of detections,
              ``thing_segments`` [D], and of semantic classes, ``stuff_segments`` [classes]; 0 = no segment.
        """
        if image.dim() == 4:
            return self.model.predict_tensors(image)
        return {name: value[0] for name, value in self.model.predict_tensors(image[None]).items()}


def tensor_method(part: object, name: str, instead_of: Sequence[str] = ()) -> Callable[..., Any]:
    """Return the method ``name`` of a model's part (model, proposal generator, heads or head).

    Args:
        part: the part.
        name: name of the method.
        instead_of: methods that it takes the place of, which are not called.

    Raises:
        TypeError: if the part lacks the method, its class overrides one of the others but not this method, or
            ``check_tensor_form()`` or ``check_NAME()`` of the part raises it.
    """
    method = getattr(part, name, None)
    if method is None:
        raise BadType(
            f"no tensor form for {type(part).__name__}: it lacks the method {name}(); see TensorInference"
        )
    kinds = type(part).__mro__
    newer = kinds[: next((i for i, kind in enumerate(kinds) if name in vars(kind)), 0)]
    ignored = [other for other in instead_of if any(other in vars(kind) for kind in newer)]
    if ignored:
        raise BadType(
            f"{type(part).__name__} overrides {', '.join(ignored)}, which {name}() does not call; override {name}() too"
        )
    for check in ("check_tensor_form", f"check_{name}"):
        if hasattr(part, check):
            getattr(part, check)()
    return method


def outputs_to_instances(outputs: Tensors, image_size: tuple[int, int]) -> Instances:
    """Convert the real rows of one image's outputs to the Instances that the model would return.

    Args:
        outputs: of :class:`TensorInference` for one image [C, H, W].
        image_size: (H, W).
    """
    rows = outputs["valid"]
    kind = Boxes if outputs["boxes"].shape[-1] == 4 else RotatedBoxes
    boxes = kind(outputs["boxes"][rows])
    if "logits" in outputs:
        return Instances(image_size, proposal_boxes=boxes, objectness_logits=outputs["logits"][rows])
    found = Instances(
        image_size, pred_boxes=boxes, scores=outputs["scores"][rows], pred_classes=outputs["classes"][rows]
    )
    if "masks" in outputs:
        found.pred_masks = paste_masks_in_image(outputs["masks"][rows], boxes, image_size)
    if "keypoints" in outputs:
        found.pred_keypoints = outputs["keypoints"][rows]
    for name in outputs.keys() - _NAMES_OF_OUTPUTS:
        found.set(name, outputs[name][rows])
    return found
