"""COCO metrics for DensePose, with geodesic point similarity (GPS) instead of IoU.

References:
    Güler et al., DensePose: Dense Human Pose Estimation In The Wild, https://arxiv.org/abs/1802.00434
    Neverova et al., Continuous Surface Embeddings, https://arxiv.org/abs/2011.12438
"""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pycocotools.mask as mask_util
from pycocotools.cocoeval import COCOeval
from pycocotools.cocoeval import Params as CocoParams
from torch import nn

from detectron2.utils.reexports import passed_on

from .masks import ground_truth_rle, ignored_region, prediction_rle, share_in_region
from .matching import match_detections
from .modes import DensePoseDataMode, DensePoseEvalMode
from .point_similarity import PointSimilarity
from .predictions import maps_of, mask_of
from .tensor_storage import MultiProcessTensorStorage

__all__ = ["DensePoseCocoEval", "DensePoseDataMode", "DensePoseEvalMode", "Params"]

__getattr__ = passed_on(
    __name__,
    (
        "projects.densepose.structures.data_relative.DensePoseDataRelative",
        "projects.densepose.structures.mesh.create_mesh",
        "projects.densepose.converters.segm_to_mask.resample_coarse_segm_tensor_to_bbox",
        "projects.densepose.converters.segm_to_mask.resample_fine_and_coarse_segm_tensors_to_bbox",
        "projects.densepose.converters.chart_output_to_chart_result.resample_uv_tensors_to_bbox",
        "projects.densepose.modeling.cse.utils.squared_euclidean_distance_matrix",
    ),
)

# Positions in ``stats`` after AP: thresholds that are reported only if the evaluation includes them.
_LOW_THRESHOLDS = (0.2, 0.3, 0.4)

DensePoseEvalMode.__module__ = DensePoseDataMode.__module__ = __name__


class Params(CocoParams):
    """Settings of an evaluation.

    Args:
        iouType: ``segm``, ``bbox``, ``keypoints`` or ``densepose``.
    """

    def __init__(self, iouType: str = "segm") -> None:
        super().__init__("keypoints" if iouType == "densepose" else iouType)
        if iouType == "densepose":
            self.setUvParams()
        self.iouType = iouType

    def setUvParams(self) -> None:
        """Set the parameters of DensePose: areas and 20 detections per image, as for keypoints."""
        self.setKpParams()


class DensePoseCocoEval(PointSimilarity, COCOeval):
    """Evaluates DensePose detections; extends ``pycocotools.cocoeval.COCOeval``.

    Call ``evaluate``, ``accumulate`` and ``summarize``; ``stats`` then holds AP, AP at IoU 0.2, 0.3, 0.4 (if
    ``params.iouThrs`` includes them), 0.5 and 0.75, AP of medium and large objects, AR, AR at 0.5 and 0.75, AR of
    medium and large objects.

    Args:
        cocoGt: ground truth, a ``pycocotools.coco.COCO``.
        cocoDt: detections, from its ``loadRes``.
        iouType: ``densepose``, or a type of COCO.
        multi_storage: holds the predictions of detections with a ``record_id``.
        embedder: returns the vertex embeddings of a mesh, to evaluate surface embeddings.
        dpEvalMode: type of similarity.
        dpDataMode: evaluated chart coordinates.
    """

    def __init__(
        self,
        cocoGt: Any = None,
        cocoDt: Any = None,
        iouType: str = "densepose",
        multi_storage: MultiProcessTensorStorage | None = None,
        embedder: nn.Module | None = None,
        dpEvalMode: DensePoseEvalMode = DensePoseEvalMode.GPS,
        dpDataMode: DensePoseDataMode = DensePoseDataMode.IUV_DT,
    ) -> None:
        COCOeval.__init__(self, cocoGt, cocoDt, "bbox")
        PointSimilarity.__init__(self, multi_storage, embedder, dpDataMode)
        params: Any = Params(iouType)
        if cocoGt is not None:
            params.imgIds, params.catIds = sorted(cocoGt.getImgIds()), sorted(cocoGt.getCatIds())
        self.params: Any = params
        self.dpEvalMode = dpEvalMode
        self.ignoreThrBB = 0.7  # minimum fraction of a box in an unannotated region for it to be ignored
        self.ignoreThrUV = 0.9  # the same for masks
        self.real_ious: dict[tuple[Any, Any], Any] = {}

    # ------------------------------------------------------------------ steps of an evaluation
    def evaluate(self) -> None:
        """Match detections to ground truth, image by image."""
        if self.params.iouType != "densepose":
            super().evaluate()
            return
        p = self.params
        p.imgIds, p.catIds = np.unique(p.imgIds).tolist(), np.unique(p.catIds).tolist()
        p.maxDets = sorted(p.maxDets)
        self._prepare()
        pairs = [(image, category) for image in p.imgIds for category in p.catIds]
        self.ious = {pair: self.computeOgps(*pair) for pair in pairs}
        self.real_ious = {}
        if self.dpEvalMode is not DensePoseEvalMode.GPS:
            self.real_ious = {pair: self.computeDPIoU(*pair) for pair in pairs}
        self._match_all()

    def in_mode(self, mode: DensePoseEvalMode) -> DensePoseCocoEval:
        """Evaluate the same detections by another similarity, reusing the comparisons.

        Args:
            mode: type of similarity.

        Returns:
            A new evaluation, for which ``evaluate`` has been called like for this one.
        """
        other = copy.copy(self)
        other.params = copy.deepcopy(self.params)
        other.dpEvalMode = mode
        if mode is not DensePoseEvalMode.GPS and not self.real_ious:
            other.real_ious = {pair: other.computeDPIoU(*pair) for pair in self.ious}
        other._match_all()
        return other

    def _match_all(self) -> None:
        p = self.params
        self.evalImgs = [
            self.evaluateImg(image, category, area, p.maxDets[-1])
            for category in p.catIds
            for area in p.areaRng
            for image in p.imgIds
        ]
        self.eval: dict[str, Any] = {}
        self._paramsEval = copy.deepcopy(p)

    def _prepare(self) -> None:
        """Group annotations and detections by image and category, without those in unannotated regions."""
        p = self.params
        if p.iouType == "segm":
            self._fill_empty_segmentations()
        if p.iouType != "densepose":
            super()._prepare()
            return
        self._gt_vertices = {}
        self._gts: Any = defaultdict(list)
        self._dts: Any = defaultdict(list)
        regions = {image: ignored_region(self.cocoGt.imgs[image]) for image in p.imgIds}
        for coco, kept in ((self.cocoGt, self._gts), (self.cocoDt, self._dts)):
            for a in coco.loadAnns(coco.getAnnIds(imgIds=p.imgIds, catIds=p.catIds)):
                if coco is self.cocoGt:
                    a["ignore"] = "dp_x" not in a
                if self._is_judged(a, regions[a["image_id"]]):
                    kept[a["image_id"], a["category_id"]].append(a)
        self.evalImgs, self.eval = [], {}

    def _fill_empty_segmentations(self) -> None:
        # PoseTrack has annotations with an empty list of polygons, which COCO cannot convert to a mask.
        for a in self.cocoGt.anns.values():
            if not a.get("segmentation", True):
                size = self.cocoGt.imgs[a["image_id"]]
                a["segmentation"] = mask_util.encode(np.zeros((size["height"], size["width"]), np.uint8, "F"))
                a["iscrowd"] = 1

    def _is_judged(self, a: dict[str, Any], region: npt.NDArray[Any] | None) -> bool:
        if region is None:
            return True
        if "score" not in a or not ({"densepose", "coarse_segm", "record_id"} & set(a)):
            share = share_in_region(None, a["bbox"], region)
            return share is not None and share < self.ignoreThrBB
        share = share_in_region(mask_of(maps_of(a, self.multi_storage)), a["bbox"], region)
        return share is not None and share < self.ignoreThrUV

    def evaluateImg(self, imgId: Any, catId: Any, aRng: Any, maxDet: int) -> dict[str, Any] | None:
        """Match the detections of one category in one image.

        Args:
            imgId: image.
            catId: category.
            aRng: smallest and largest area of evaluated ground truth.
            maxDet: number of evaluated detections.

        Returns:
            Input of ``accumulate``; None if there is neither detection nor ground truth.
        """
        if self.params.iouType != "densepose":
            return super().evaluateImg(imgId, catId, aRng, maxDet)
        gts, dts = self._gts[imgId, catId], self._best_detections(imgId, catId, maxDet)
        if not gts and not dts:
            return None
        thresholds = self.params.iouThrs
        ignored = np.asarray([bool(g["ignore"]) or not aRng[0] <= g["area"] <= aRng[1] for g in gts], bool)
        crowd = np.asarray([bool(g.get("iscrowd", 0)) for g in gts], bool)
        partner = np.full((len(thresholds), len(dts)), -1, dtype=np.int64)
        unjudged = np.zeros(partner.shape, dtype=bool)
        if gts and dts:
            partner, unjudged = match_detections(
                self._similarities(imgId, catId)[: len(dts)],
                self.ious[imgId, catId][1][: len(dts)],
                ignored,
                crowd,
                thresholds,
            )
        outside = np.asarray([not aRng[0] <= d["area"] <= aRng[1] for d in dts], bool)
        unjudged |= (partner < 0) & (outside | ignored.all())
        return _image_record(imgId, catId, aRng, maxDet, gts, dts, ignored, partner, unjudged)

    def _similarities(self, imgId: object, catId: object) -> npt.NDArray[Any]:
        gps = self.ious[imgId, catId][0]
        if self.dpEvalMode is DensePoseEvalMode.GPS:
            return gps
        iou = self.real_ious[imgId, catId]
        return iou if self.dpEvalMode is DensePoseEvalMode.IOU else np.sqrt(gps * iou)

    def _best_detections(self, imgId: object, catId: object, number: int) -> list[dict[str, Any]]:
        return sorted(self._dts[imgId, catId], key=lambda d: -d["score"])[:number]

    # ------------------------------------------------------------------ similarities
    def computeOgps(self, imgId: object, catId: object) -> Any:
        """Compute the geodesic point similarities of the detections of one category in one image.

        Returns:
            (D, G) similarities of the D best detections to the ground truth, 0 without annotation; and (D, G) IoUs of
            their boxes. An empty list if there is no detection or no ground truth.
        """
        gts, dts = self._gts[imgId, catId], self._best_detections(imgId, catId, self.params.maxDets[-1])
        if not gts or not dts:
            return []
        found = np.zeros((len(dts), len(gts)))
        for i, dt in enumerate(dts):
            dt = maps_of(dt, self.multi_storage)
            for j, gt in enumerate(gts):
                if not gt["ignore"]:
                    found[i, j] = self.similarity_of_pair(dt, gt)
        crowd = [int(g.get("iscrowd", 0)) for g in gts]
        return found, mask_util.iou([d["bbox"] for d in dts], [g["bbox"] for g in gts], crowd)

    def computeDPIoU(self, imgId: object, catId: object) -> Any:
        """Compute the IoUs of the masks of the detections of one category in one image.

        Returns:
            (D, G) IoUs of the D best detections; an empty list if there is no detection or no ground truth.
        """
        gts, dts = self._gts[imgId, catId], self._best_detections(imgId, catId, self.params.maxDets[-1])
        if not gts or not dts:
            return []
        image = self.cocoGt.imgs[imgId]
        size = (image["height"], image["width"])
        masks = [prediction_rle(mask_of(maps_of(d, self.multi_storage)), d["bbox"], size) for d in dts]
        truth = [ground_truth_rle(g, size) for g in gts]
        return mask_util.iou(masks, truth, [int(g.get("iscrowd", 0)) for g in gts])

    # ------------------------------------------------------------------ metrics
    def summarize(self) -> None:
        """Compute ``stats`` from the result of ``accumulate``, and print them."""
        if self.params.iouType != "densepose":
            super().summarize()
            return
        if not self.eval:
            raise ValueError("call evaluate() and accumulate() before summarize()")
        low = [t for t in _LOW_THRESHOLDS if t >= min(self.params.iouThrs) - 1e-3]
        of_precision = [(t, "all") for t in (None, *low, 0.5, 0.75)] + [(None, "medium"), (None, "large")]
        of_recall = [(t, "all") for t in (None, 0.5, 0.75)] + [(None, "medium"), (None, "large")]
        precisions = [self._mean("precision", t, area) for t, area in of_precision]
        recalls = [self._mean("recall", t, area) for t, area in of_recall]
        self.stats = np.asarray(precisions + recalls)

    def _mean(self, what: str, threshold: float | None, area: str) -> float:
        """Return the mean of precisions (T, R, K, A, M) or recalls (T, K, A, M) for an area; -1 without ground truth."""
        p = self.params
        values = self.eval[what][..., p.areaRngLbl.index(area), -1]
        if threshold is not None:
            values = values[np.abs(np.asarray(p.iouThrs) - threshold) < 1e-3]
        values = values[values > -1]
        mean = float(values.mean()) if values.size else -1.0
        at = f"{p.iouThrs[0]:0.2f}:{p.iouThrs[-1]:0.2f}" if threshold is None else f"{threshold:0.2f}"
        kind = self.dpEvalMode.name
        print(
            f" Average {what:<9} @[ {kind}={at:<9} | area={area:>6} | maxDets={p.maxDets[-1]:>3} ] = {mean:0.3f}"
        )
        return mean


def _image_record(
    imgId: Any,
    catId: Any,
    aRng: object,
    maxDet: int,
    gts: Sequence[dict[str, Any]],
    dts: Sequence[dict[str, Any]],
    ignored: npt.NDArray[np.bool_],
    partner: npt.NDArray[np.int64],
    unjudged: npt.NDArray[np.bool_],
) -> dict[str, Any]:
    """Return the record of one image in the format of COCO's ``accumulate``."""
    gt_ids = np.asarray([*(g["id"] for g in gts), 0])  # the last id is for partner -1
    gt_matches = np.zeros((len(partner), len(gts)))
    for t, d in zip(*np.nonzero(partner >= 0)):
        gt_matches[t, partner[t, d]] = dts[d]["id"]
    return {
        "image_id": imgId,
        "category_id": catId,
        "aRng": aRng,
        "maxDet": maxDet,
        "dtIds": [d["id"] for d in dts],
        "gtIds": [g["id"] for g in gts],
        "dtMatches": gt_ids[partner].astype(float),
        "gtMatches": gt_matches,
        "dtScores": [d["score"] for d in dts],
        "gtIgnore": ignored.astype(int),
        "dtIgnore": unjudged,
    }
