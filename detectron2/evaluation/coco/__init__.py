"""COCO evaluation: ground truth, detections, matching engines, metrics, result files."""
