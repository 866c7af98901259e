"""Symmetry tables of data sets, verbosity of the programs, selectors of annotations."""
