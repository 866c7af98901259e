"""Panoptic quality: the evaluator and the matching of segments."""
