"""Read and write COCO JSON files without holding them in memory."""
