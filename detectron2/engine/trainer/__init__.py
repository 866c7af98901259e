"""The default trainer: loop, parts, metrics and resuming."""
