"""Reproduction of the paper's tables: training and evaluation of every row, and a report beside the published figures."""
