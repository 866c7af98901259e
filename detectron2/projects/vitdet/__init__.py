"""Configs of ViTDet; :class:`detectron2.modeling.ViT` and :class:`detectron2.modeling.SimpleFeaturePyramid` are its parts.

Reference: Exploring Plain Vision Transformer Backbones for Object Detection, https://arxiv.org/abs/2203.16527
"""
