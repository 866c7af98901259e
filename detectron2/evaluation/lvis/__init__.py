"""LVIS evaluation: the evaluator and its metrics."""
