"""Random augmentations: each draws its values and returns a transform."""
