"""Motion-capture files, read as joint positions for training and evaluation."""
