"""Deterministic transforms of images, boxes, masks and points."""
