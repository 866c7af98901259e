"""Horizontal flips of chart outputs."""

from dataclasses import fields, replace
from typing import Any

import torch

from ..structures.chart import DensePoseChartPredictorOutput
from ..structures.transform_data import DensePoseTransformData

__all__ = ["densepose_chart_predictor_output_hflip"]


def densepose_chart_predictor_output_hflip(
    densepose_predictor_output: DensePoseChartPredictorOutput, transform_data: DensePoseTransformData
) -> DensePoseChartPredictorOutput:
    """Flip chart outputs: reverse every map, swap left and right charts, and mirror their coordinates.

    Args:
        densepose_predictor_output: output for N instances; not changed.
        transform_data: symmetries of charts and labels.
    """
    output: Any = densepose_predictor_output
    values = {f.name: getattr(output, f.name) for f in fields(output)}
    mirrored = {name: maps.flip(3) for name, maps in values.items() if maps is not None}

    charts = torch.arange(mirrored["u"].shape[1] - 1, device=mirrored["u"].device)[:, None, None]
    row, column = ((mirrored[name][:, 1:].clamp(0, 1) * 255).long() for name in ("v", "u"))
    for name, table in (("u", "U_transforms"), ("v", "V_transforms")):
        moved = transform_data.uv_symmetries[table].to(mirrored[name])[charts, row, column]
        mirrored[name] = torch.cat([mirrored[name][:, :1], moved], dim=1)

    for name in ("fine_segm", "u", "v"):
        mirrored[name] = mirrored[name][:, transform_data.point_label_symmetries]
    if mirrored["coarse_segm"].shape[1] > 2:
        mirrored["coarse_segm"] = mirrored["coarse_segm"][:, transform_data.mask_label_symmetries]
    return replace(output, **mirrored)
