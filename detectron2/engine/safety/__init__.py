"""Protection of long trainings against diverging losses, interrupts and missing processes."""
