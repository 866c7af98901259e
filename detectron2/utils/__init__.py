"""Helpers that every other package may use: files, registries, logging, events, drawing."""
