"""Whole models as functions from a tensor to tensors, for ``torch.export`` and ``torch.compile``.

The models of this package take and return dicts, ``Instances`` and lists whose lengths depend on what was found. No
graph can hold that. :class:`TensorInference` runs the same parts on plain tensors: every count is fixed, and a mask
says which rows are real. The numbers are those of the model itself.

N images of one size, P proposals, D detections, K classes, M cells of a mask in each direction.

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

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from detectron2.layers import paste_masks_in_image
from detectron2.structures import Boxes, Instances
from detectron2.utils.errors import BadType

__all__ = ["TensorInference", "Tensors", "outputs_to_instances", "tensor_method"]

Tensors = dict[str, Tensor]

# What the package's own models return; anything else comes from heads of other code.
_NAMES_OF_OUTPUTS = {
    *("boxes", "scores", "classes", "valid", "masks", "keypoints", "logits"),
    *("sem_seg", "panoptic_seg", "thing_segments", "stuff_segments"),
}


class TensorInference(nn.Module):
    """A model as a function from images to tensors of fixed counts. Evaluation only.

    Each part says itself how it runs on fixed counts, so that models and heads of your own can join:

    * a model by ``predict_tensors(images) -> outputs``;
    * a proposal generator of an R-CNN by ``propose_tensors(features, size) -> (boxes, logits, real)``,
      see :meth:`.RPN.propose_tensors`;
    * its heads by ``detect_tensors(features, boxes, real, size) -> outputs``,
      see :meth:`.StandardROIHeads.detect_tensors`, whose ``describe_tensors`` further branches extend;
    * box predictors by ``decode_tensors`` and ``select_tensors``, see :class:`.FastRCNNOutputLayers`;
    * mask and keypoint heads by ``predict_tensors(x, boxes, classes)``, see :meth:`.BaseMaskRCNNHead.predict_tensors`.

    A part that has a method ``check_tensor_form()`` may refuse there by an error.

    Args:
        model: GeneralizedRCNN (with RPN and standard, cascade or C4 heads), ProposalNetwork, RetinaNet, FCOS,
            SemanticSegmentor, PanopticFPN, or any module with the method above. It is switched to evaluation.

    Raises:
        TypeError: if the model or one of its parts has no tensor form.
        ValueError: if the number of detections is not limited.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        model.eval()
        tensor_method(model, "predict_tensors")
        self.model: Any = model

    def forward(self, image: Tensor) -> Tensors:
        """Predict.

        Args:
            image: [C, H, W], or [N, C, H, W] for N images of one size; channels and range as the model takes them.

        Returns:
            In coordinates of the image, each with a leading N if the input had one:

            * R-CNN and dense models: ``boxes`` [D, 4], ``scores`` [D], ``classes`` [D] and ``valid`` bool [D], in
              descending order of score; with mask heads ``masks`` [D, M, M], soft masks within the boxes; with
              keypoint heads ``keypoints`` [D, keypoints, 3] (x, y, score); further heads add [D, ...] by name;
            * ProposalNetwork: ``boxes`` [P, 4], ``logits`` [P] and ``valid`` [P];
            * semantic models: ``sem_seg`` [classes, H, W];
            * PanopticFPN: all of these, ``panoptic_seg`` int32 [H, W], and the segment of each detection,
              ``thing_segments`` [D], and of each class of ``sem_seg``, ``stuff_segments`` [classes]; 0 = none.
        """
        if image.dim() == 4:
            return self.model.predict_tensors(image)
        return {name: value[0] for name, value in self.model.predict_tensors(image[None]).items()}


def tensor_method(part: object, name: str) -> Callable[..., Any]:
    """Return a method that a part of a model needs for its tensor form.

    Args:
        part: model, proposal generator, heads or head.
        name: name of the method.

    Raises:
        TypeError: if the part has no such method, or refuses in its ``check_tensor_form()``.
    """
    method = getattr(part, name, None)
    if method is None:
        raise BadType(
            f"no tensor form for {type(part).__name__}: it lacks the method {name}(); see TensorInference"
        )
    check = getattr(part, "check_tensor_form", None)
    if check is not None:
        check()
    return method


def outputs_to_instances(outputs: Tensors, image_size: tuple[int, int]) -> Instances:
    """Convert the real rows of one image's outputs to the Instances that the model itself would return.

    Args:
        outputs: of :class:`TensorInference` for one image [C, H, W].
        image_size: (H, W).
    """
    rows = outputs["valid"]
    boxes = Boxes(outputs["boxes"][rows])
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
