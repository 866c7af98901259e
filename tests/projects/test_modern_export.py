"""Each modern model as a file of ONNX, which gives in ONNX Runtime what the model gives."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from detectron2.export import ExportOptions, export_model, load_exported

sys.path.insert(0, str(Path(__file__).parent))
from _modern_models import MODELS, small_modern_model


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the exporter
@pytest.mark.parametrize("name", MODELS)
def test_file_gives_what_the_model_gives(name: str, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    generator = np.random.default_rng(0)
    pictures = [generator.integers(0, 256, (*size, 3), dtype=np.uint8) for size in ((160, 220), (200, 140))]
    sizes = {"min_size": 160, "max_size": 220}
    found = export_model(
        small_modern_model(name), tmp_path / "model", pictures, options=ExportOptions("onnx"), metadata=sizes
    )
    assert found.problems == []
    (result,) = load_exported(found.path)(pictures[:1])
    wanted = {"semantic": {"sem_seg"}, "panoptic": {"sem_seg", "panoptic_seg", "instances"}}
    assert set(result) == wanted.get(name.rpartition("_")[2], {"instances"})
    if "instances" in result:
        assert len(result["instances"]) > 0
        assert result["instances"].image_size == (160, 220)
