"""The default trainer: its loop, its parts, its metrics, resuming."""
