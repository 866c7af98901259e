"""Progress of an evaluation: records on disk, resuming, timing."""
