"""Projects built on the core: PointRend, DeepLab, Panoptic-DeepLab, PointSup, TridentNet, TensorMask and DensePose."""
