"""One module for each command of ``detectron2``."""
