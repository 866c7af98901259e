"""Formats of weight files: pickles, safetensors, shards."""
