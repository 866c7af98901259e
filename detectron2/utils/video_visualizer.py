"""Public path of the video visualizer; the code is in ``detectron2/visualization/``."""

from detectron2.utils.reexports import publish
from detectron2.visualization.video_visualizer import VideoVisualizer, _DetectedInstance

from .reexports import passed_on

__all__ = ["VideoVisualizer", "_DetectedInstance"]

__getattr__ = passed_on(__name__)

publish(__name__, VideoVisualizer, _DetectedInstance)
