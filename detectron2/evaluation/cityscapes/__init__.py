"""Cityscapes metrics of instance and semantic segmentation."""
