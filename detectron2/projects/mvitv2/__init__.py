"""Configs of MViTv2 detectors; :class:`detectron2.modeling.MViT` is the backbone.

Reference: MViTv2: Improved Multiscale Vision Transformers for Classification and Detection,
https://arxiv.org/abs/2112.01526
"""
