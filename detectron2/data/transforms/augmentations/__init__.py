"""Random augmentations of the package."""
