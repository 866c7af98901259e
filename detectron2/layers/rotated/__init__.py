"""Kernels of rotated boxes: overlaps, suppression, pooling."""
