"""Protection of long trainings: bad steps, interrupts, silent processes."""
