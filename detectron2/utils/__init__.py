"""Helpers for all other packages: files, registries, logging, events, drawing."""
