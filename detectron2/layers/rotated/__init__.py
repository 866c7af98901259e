"""Kernels for rotated boxes: IoU, NMS, pooling."""
