"""Lifting: from 2D keypoints over time to 3D joints and the root's trajectory."""
