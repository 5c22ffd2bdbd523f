"""Motion for training and evaluation."""
