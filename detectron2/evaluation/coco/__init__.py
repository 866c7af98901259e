"""COCO evaluation: ground truth, detections, matching engines, figures, result files."""
