"""Load records and batches: shared memory, broken images, exact resuming."""
