"""Visualizers of predicted surface embeddings."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from detectron2.config import CfgNode

from ..data.utils import get_class_to_mesh_name_mapping
from ..modeling.build import build_densepose_embedder
from ..modeling.cse.utils import get_closest_vertices_mask_from_ES
from ..structures.cse import DensePoseEmbeddingPredictorOutput
from ..structures.mesh import create_mesh
from .base import MatrixVisualizer
from .densepose_results_textures import get_texture_atlas, split_alpha
from .drawing import RAINBOW, Image, clip_to_image
from .vertex_colors import get_xyz_vertex_embedding

__all__ = [
    "DensePoseOutputsTextureVisualizer",
    "DensePoseOutputsVertexVisualizer",
    "get_texture_atlases",
    "get_xyz_vertex_embedding",
]

OutputsBoxesClasses = tuple[Any, Any, Any]


def get_texture_atlases(json_str: str | None) -> dict[str, npt.NDArray[np.uint8] | None] | None:
    """Read the texture atlases of several meshes.

    Args:
        json_str: JSON of a dict, name of a mesh to path of an image; None = none.
    """
    if json_str is None:
        return None
    return {mesh_name: get_texture_atlas(path) for mesh_name, path in json.loads(json_str).items()}


class DensePoseOutputsVertexVisualizer:
    """Draws the nearest vertex of each pixel, in colours that change smoothly over the surface.

    Args:
        cfg: config of the model, with the meshes of the classes and their vertex embeddings.
        inplace: draw on the image instead of a new black one.
        cmap: OpenCV id of the colour map.
        alpha: opacity, in [0, 1].
        device: device for the vertex search; the CPU instead of an unavailable "cuda".
        default_class: class of instances without one.
        **kwargs: unused.
    """

    def __init__(
        self,
        cfg: CfgNode,
        inplace: bool = True,
        cmap: int = RAINBOW,
        alpha: float = 0.7,
        device: str = "cuda",
        default_class: int = 0,
        **kwargs: object,
    ) -> None:
        self.inplace = inplace
        self.mask_visualizer = MatrixVisualizer(cmap=cmap, alpha=alpha)
        self.class_to_mesh_name = get_class_to_mesh_name_mapping(cfg)
        embedder = build_densepose_embedder(cfg)
        if embedder is None:
            raise ValueError(
                "drawing surface embeddings needs MODEL.ROI_DENSEPOSE_HEAD.CSE.EMBEDDERS in the config"
            )
        self.embedder: Any = embedder
        use_cpu = device.startswith("cuda") and not torch.cuda.is_available()
        self.device = torch.device("cpu" if use_cpu else device)
        self.default_class = default_class
        with torch.no_grad():
            self.mesh_vertex_embeddings: dict[str, Tensor] = {
                name: self.embedder(name).to(self.device)
                for name in self.class_to_mesh_name.values()
                if self.embedder.has_embeddings(name)
            }

    def visualize(self, image_bgr: Image, outputs_boxes_xywh_classes: OutputsBoxesClasses) -> Image:
        """Draw the vertices of several instances.

        Args:
            image_bgr: uint8 BGR image (H, W, 3).
            outputs_boxes_xywh_classes: outputs for N instances, boxes (N, 4) and classes; None = draw nothing.
        """
        if outputs_boxes_xywh_classes[0] is None:
            return image_bgr
        image_bgr = image_bgr if self.inplace else np.zeros_like(image_bgr)
        for box, mesh_name, vertices, mask in self._instances(outputs_boxes_xywh_classes):
            values = get_xyz_vertex_embedding(mesh_name, self.device)[vertices].clamp(0, 1) * 255.0
            image_bgr = self.mask_visualizer.visualize(
                image_bgr, mask.cpu().numpy().astype(np.uint8), values.cpu().numpy(), box
            )
        return image_bgr

    def _instances(self, given: OutputsBoxesClasses) -> Iterator[tuple[list[int], str, Tensor, Tensor]]:
        """Yield box, mesh, nearest vertices (h, w) and mask (h, w) of each instance with a nonempty box."""
        segm, embeddings, number, boxes, classes = self.extract_and_check_outputs_and_boxes(given)
        for n in range(number):
            box = boxes[n].int().tolist()
            if min(box[2:]) <= 0:
                continue
            mesh_name = self.class_to_mesh_name[int(classes[n])]
            one = slice(n, n + 1)
            vertices, mask = get_closest_vertices_mask_from_ES(
                embeddings[one],
                segm[one],
                box[3],
                box[2],
                self.mesh_vertex_embeddings[mesh_name],
                self.device,
            )
            yield box, mesh_name, vertices, mask

    def extract_and_check_outputs_and_boxes(
        self, outputs_boxes_xywh_classes: OutputsBoxesClasses
    ) -> tuple[Tensor, Tensor, int, Tensor, Any]:
        """Check and split the input of :meth:`visualize`.

        Returns:
            Logits of coarse segmentation, embeddings, the number N of instances, their boxes and their classes.

        Raises:
            TypeError: the outputs are not surface embeddings.
            ValueError: the numbers of outputs, boxes and classes differ.
        """
        output, boxes, classes = outputs_boxes_xywh_classes
        if not isinstance(output, DensePoseEmbeddingPredictorOutput):
            raise TypeError(f"expected predicted surface embeddings, got {type(output).__name__}")
        classes = [self.default_class] * len(boxes) if classes is None else classes
        number = len(output)
        if not number == len(boxes) == len(classes):
            raise ValueError(
                "there must be one box and one class per output, "
                f"got {len(boxes)} boxes and {len(classes)} classes for {number} outputs"
            )
        return output.coarse_segm, output.embedding, number, boxes, classes


class DensePoseOutputsTextureVisualizer(DensePoseOutputsVertexVisualizer):
    """Draws textures on instances. The image itself is not changed.

    Args:
        cfg: config of the model, with the meshes of the classes and their vertex embeddings.
        texture_atlases_dict: name of a mesh to its texture, (H, W, 3) or (H, W, 4), BGR. Instances of other meshes
            are not drawn.
        device: device for the vertex search; the CPU instead of an unavailable "cuda".
        default_class: class of instances without one.
        **kwargs: unused.
    """

    def __init__(
        self,
        cfg: CfgNode,
        texture_atlases_dict: Mapping[str, npt.NDArray[Any]],
        device: str = "cuda",
        default_class: int = 0,
        **kwargs: object,
    ) -> None:
        super().__init__(cfg, device=device, default_class=default_class)
        self.textures = {name: split_alpha(atlas) for name, atlas in texture_atlases_dict.items()}

    def visualize(self, image_bgr: Image, outputs_boxes_xywh_classes: OutputsBoxesClasses) -> Image:
        if outputs_boxes_xywh_classes[0] is None:
            return image_bgr
        image = image_bgr.copy()
        for box, mesh_name, vertices, mask in self._instances(outputs_boxes_xywh_classes):
            texcoords = create_mesh(mesh_name, self.device).texcoords
            if texcoords is None or mesh_name not in self.textures:
                continue
            uv = texcoords[vertices].permute(2, 0, 1).clamp(0, 1).cpu().numpy()
            place, part = clip_to_image(image, box)
            image[place] = self.generate_image_with_texture(
                image[place], uv[(slice(None), *part)], mask.cpu().numpy()[part], mesh_name
            )
        return image

    def generate_image_with_texture(
        self,
        bbox_image_bgr: Image,
        uv_array: npt.NDArray[Any],
        mask: npt.NDArray[np.bool_],
        mesh_name: str,
    ) -> Image:
        """Draw the texture of one instance.

        Args:
            bbox_image_bgr: (h, w, 3), the image in the box.
            uv_array: (2, h, w) texture coordinates, in [0, 1].
            mask: (h, w), pixels to draw.
            mesh_name: mesh of the instance.

        Returns:
            A new image (h, w, 3).
        """
        colors, alpha = self.textures[mesh_name]
        height, width = alpha.shape
        columns = (uv_array[0][mask] * width).astype(int).clip(0, width - 1)
        rows = (uv_array[1][mask] * height).astype(int).clip(0, height - 1)
        opacity = alpha[rows, columns][:, None]
        image = bbox_image_bgr.copy()
        image[mask] = (image[mask] * (1 - opacity) + colors[rows, columns] * opacity).astype(np.uint8)
        return image
