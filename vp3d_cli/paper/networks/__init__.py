"""Ablation networks of the paper: dense convolutions, SimpleBaseline3D, recurrent."""
