"""Detection of people and their 2D keypoints; base.py has the detector protocol."""
