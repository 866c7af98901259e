"""Progress of an evaluation: saved records, resuming, timing."""
