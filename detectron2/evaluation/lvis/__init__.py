"""LVIS evaluation: the evaluator and its figures."""
