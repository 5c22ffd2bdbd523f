"""Reproduction of the paper's tables: training, evaluation and report."""
