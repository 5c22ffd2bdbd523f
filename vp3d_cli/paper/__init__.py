"""Experiments of the VideoPose3D paper: data sets, checkpoints, CPN training, ablations."""
