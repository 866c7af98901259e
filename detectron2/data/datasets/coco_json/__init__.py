"""Reading and writing COCO json files without holding them in memory."""
