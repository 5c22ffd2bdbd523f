"""The experiments of the VideoPose3D paper: data sets, official checkpoints, CPN training, ablation networks."""
