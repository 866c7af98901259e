"""Pictures of DensePose annotations and predictions."""
