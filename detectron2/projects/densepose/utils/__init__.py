"""Symmetry tables of datasets, verbosity of the programs, selectors of annotations."""
