"""Cityscapes' own instance and semantic figures."""
