"""Geodesic point similarity of one detection and one annotation."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from ..modeling.cse.utils import squared_euclidean_distance_matrix
from ..structures.mesh import create_mesh
from .masks import parts_of
from .modes import DensePoseDataMode
from .predictions import Points, maps_of, points_of_quantized, points_of_raw, sample_at_pixels
from .smpl_geodesics import MEAN_DISTANCE, SmplGeodesics, load_smpl_geodesics, mean_distances, similarity
from .tensor_storage import MultiProcessTensorStorage

__all__ = ["PointSimilarity"]

_ANNOTATION_SIZE = 255.0
_SMPL_MESH = "smpl_27554"


class PointSimilarity:
    """Compares the points of an annotation with the predictions of a detection there.

    In all methods ``dt`` is a detection (a COCO result dict), ``gt`` an annotation of a COCO file, ``px`` and ``py``
    (K,) are the columns and rows of the K annotated points in the box of the detection, and ``pt_mask`` (K,) is -1 for
    points outside it.

    Args:
        multi_storage: holds the predictions of detections with a ``record_id``.
        embedder: returns the vertex embeddings of a mesh, to evaluate surface embeddings.
        data_mode: evaluated chart coordinates.
    """

    def __init__(
        self,
        multi_storage: MultiProcessTensorStorage | None = None,
        embedder: nn.Module | None = None,
        data_mode: DensePoseDataMode = DensePoseDataMode.IUV_DT,
    ) -> None:
        self.multi_storage = multi_storage
        self.embedder = embedder
        self.dpDataMode = data_mode
        self._smpl: SmplGeodesics | None = None
        # Annotated points are compared with many detections, so their vertices are cached.
        self._gt_vertices: dict[int, tuple[Any, Any]] = {}

    @property
    def smpl(self) -> SmplGeodesics:
        """The human surface, loaded on first use; surface embeddings do not need it."""
        if self._smpl is None:
            self._smpl = load_smpl_geodesics()
        return self._smpl

    def similarity_of_pair(self, dt: dict[str, Any], gt: dict[str, Any]) -> float:
        """Compute the similarity of a detection and an annotation.

        Returns:
            The mean over the points, in [0, 1]; 0 if none of them lies in the box of the detection.
        """
        x, y, w, h = gt["bbox"]
        px = (np.asarray(gt["dp_x"]) * w / _ANNOTATION_SIZE + x - dt["bbox"][0]).astype(int)
        py = (np.asarray(gt["dp_y"]) * h / _ANNOTATION_SIZE + y - dt["bbox"][1]).astype(int)
        inside = (px >= 0) & (py >= 0) & (px < int(dt["bbox"][2])) & (py < int(dt["bbox"][3]))
        if not inside.any():
            return 0.0
        pt_mask = np.where(inside, 0, -1)
        return self.computeOgps_single_pair(dt, gt, np.where(inside, py, 0), np.where(inside, px, 0), pt_mask)

    def computeOgps_single_pair(
        self, dt: dict[str, Any], gt: dict[str, Any], py: object, px: object, pt_mask: object
    ) -> float:
        """Compute the similarity at given points for any form of prediction."""
        dt = maps_of(dt, self.multi_storage)
        if "embedding" in dt:
            return self.computeOgps_single_pair_cse(
                dt, gt, py, px, pt_mask, dt["coarse_segm"], dt["embedding"], dt["bbox"]
            )
        extract = self.extract_iuv_from_quantized if "densepose" in dt else self.extract_iuv_from_raw
        return self.computeOgps_single_pair_iuv(dt, gt, *extract(dt, gt, py, px, pt_mask))

    # ------------------------------------------------------------------ charts
    def extract_iuv_from_quantized(
        self, dt: dict[str, Any], gt: dict[str, Any], py: object, px: object, pt_mask: object
    ) -> Points:
        """Read charts, U and V, (K,) each, from quantised charts; chart 0 for points outside the box."""
        return self._in_data_mode(points_of_quantized(dt, py, px), gt, pt_mask)

    def extract_iuv_from_raw(
        self, dt: dict[str, Any], gt: dict[str, Any], py: object, px: object, pt_mask: object
    ) -> Points:
        """Read charts, U and V, (K,) each, from raw maps; chart 0 for points outside the box."""
        return self._in_data_mode(points_of_raw(dt, py, px), gt, pt_mask)

    def _in_data_mode(self, predicted: Points, gt: dict[str, Any], pt_mask: object) -> Points:
        """Replace parts of a prediction according to ``dpDataMode``."""
        mode = self.dpDataMode
        charts, u, v = (np.array(values) for values in predicted)
        if mode in (DensePoseDataMode.IUV_GT, DensePoseDataMode.I_GT_UV_0, DensePoseDataMode.I_GT_UV_DT):
            charts = np.array(gt["dp_I"])
        if mode is DensePoseDataMode.IUV_GT:
            u, v = np.array(gt["dp_U"]), np.array(gt["dp_V"])
        elif mode in (DensePoseDataMode.I_GT_UV_0, DensePoseDataMode.I_DT_UV_0):
            u, v = np.zeros_like(u), np.zeros_like(v)
        charts[np.asarray(pt_mask) == -1] = 0
        return charts, u, v

    def computeOgps_single_pair_iuv(
        self, dt: dict[str, Any], gt: dict[str, Any], ipoints: object, upoints: object, vpoints: object
    ) -> float:
        """Compute the similarity of predicted chart coordinates.

        Args:
            dt: unused.
            gt: annotation.
            ipoints: (K,) charts.
            upoints: (K,) first coordinates.
            vpoints: (K,) second coordinates.
        """
        if id(gt) not in self._gt_vertices:
            self._gt_vertices[id(gt)] = self.findAllClosestVertsGT(gt)
        vertices, coarse = self._gt_vertices[id(gt)]
        distances = self.getDistancesUV(coarse, self.findAllClosestVertsUV(upoints, vpoints, ipoints))
        scale = mean_distances(self.smpl.chart_ids[vertices[vertices > 0].astype(int) - 1])
        return float(similarity(distances, scale).mean())

    def findAllClosestVertsGT(self, gt: dict[str, Any]) -> tuple[Any, Any]:
        """Find the vertices of annotated points, numbered from 1 on.

        Returns:
            (K,) vertices of the fine surface as floats, -1 for a point on no chart; and (K,) of the coarse one as
            integers, 0 likewise.
        """
        vertices = self.smpl.closest_vertices(gt["dp_I"], gt["dp_U"], gt["dp_V"])
        return vertices.astype(float), self.smpl.to_coarse(vertices)

    def findAllClosestVertsUV(self, U_points: object, V_points: object, Index_points: object) -> Any:
        """Find the vertices of points given by chart coordinates.

        Args:
            U_points: (K,) first coordinates.
            V_points: (K,) second coordinates.
            Index_points: (K,) charts.

        Returns:
            (K,) vertices of the coarse surface, numbered from 1 on; 0 for a point on no chart.
        """
        return self.smpl.to_coarse(self.smpl.closest_vertices(Index_points, U_points, V_points))

    def getDistancesUV(self, cVertsGT: object, cVerts: object) -> npt.NDArray[np.float64]:
        """Look up geodesic distances on the human surface.

        Args:
            cVertsGT: (K,) annotated vertices of the coarse surface, numbered from 1 on; 0 = ignored.
            cVerts: (K,) predicted vertices; 0 = none.

        Returns:
            (K',) distances in metres, infinite without a prediction.
        """
        annotated = np.asarray(cVertsGT) > 0
        return self.smpl.distances_between(np.asarray(cVertsGT)[annotated], np.asarray(cVerts)[annotated])

    # ------------------------------------------------------------------ surface embeddings
    def computeOgps_single_pair_cse(
        self,
        dt: dict[str, Any],
        gt: dict[str, Any],
        py: object,
        px: object,
        pt_mask: object,
        coarse_segm: Tensor,
        embedding: Tensor,
        bbox_xywh_abs: Iterable[float],
    ) -> float:
        """Compute the similarity of predicted surface embeddings.

        Args:
            dt: unused.
            gt: annotation.
            py: (K,) rows of the points.
            px: (K,) columns of the points.
            pt_mask: (K,) -1 for points outside the box.
            coarse_segm: (C, S, S) logits over the box.
            embedding: (D, S, S) embeddings over the box.
            bbox_xywh_abs: the box.
        """
        mesh_name, box = gt["ref_model"], bbox_xywh_abs
        annotated = torch.as_tensor(gt["dp_vertex"], dtype=torch.int64)
        inside = torch.as_tensor(pt_mask) > -1
        rows, columns = torch.as_tensor(py)[inside], torch.as_tensor(px)[inside]
        body = sample_at_pixels(coarse_segm, rows, columns, box).argmax(dim=0) > 0
        found = self._nearest_vertices(sample_at_pixels(embedding, rows, columns, box).T, mesh_name)
        predicted = torch.full_like(annotated, -1)
        predicted[inside] = torch.where(body.cpu(), found, -1)
        scale: Any = MEAN_DISTANCE
        if mesh_name == _SMPL_MESH and "dp_I" in gt:
            scale = mean_distances(gt["dp_I"])
        return float(similarity(self.getDistancesCse(annotated, predicted, mesh_name), scale).mean())

    def findClosestVertsCse(
        self, embedding: Tensor, py: Any, px: Any, mask: Tensor, mesh_name: str
    ) -> Tensor:
        """Find the vertices whose embeddings are nearest to those of pixels.

        Args:
            embedding: (D, H, W) embeddings of the pixels.
            py: (K,) rows.
            px: (K,) columns.
            mask: (H, W), greater than 0 on the body.
            mesh_name: mesh of the vertices.

        Returns:
            int64 tensor (K,), on the CPU; -1 for a pixel that is not on the body.
        """
        found = self._nearest_vertices(embedding[:, py, px].T, mesh_name)
        return torch.where((mask[py, px] > 0).cpu(), found, -1)

    @torch.no_grad()
    def _nearest_vertices(self, embeddings: Tensor, mesh_name: str) -> Tensor:
        if self.embedder is None:
            raise ValueError("evaluating surface embeddings needs the embedder of the model, got None")
        vertices = self.embedder(mesh_name)
        return squared_euclidean_distance_matrix(embeddings.to(vertices), vertices).argmin(dim=1).cpu()

    def getDistancesCse(self, cVertsGT: Tensor, cVerts: Tensor, mesh_name: str) -> npt.NDArray[np.float64]:
        """Look up geodesic distances on a mesh.

        Args:
            cVertsGT: int64 tensor (K,) of annotated vertices.
            cVerts: int64 tensor (K,) of predicted vertices; -1 = none.
            mesh_name: mesh of the vertices.

        Returns:
            (K,) distances in metres, infinite if either is none.
        """
        known = (cVertsGT >= 0) & (cVerts >= 0)
        geodists = create_mesh(mesh_name, torch.device("cpu")).geodists
        if geodists is None:
            raise ValueError(f"the mesh {mesh_name!r} has no geodesic distances")
        distances = torch.full(cVertsGT.shape, float("inf"), dtype=torch.float64)
        distances[known] = geodists[cVertsGT[known], cVerts[known]].double()
        return distances.numpy()

    def getDensePoseMask(self, polys: object) -> npt.NDArray[Any]:
        """Decode the body parts of an annotation, see :func:`parts_of`."""
        return parts_of(polys)
