"""Visualization of DensePose annotations and predictions."""
