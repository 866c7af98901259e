"""Analysis of evaluation results: errors by kind, curves, reasons for a low AP."""
