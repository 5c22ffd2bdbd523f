"""Recorded 2D keypoint sequences, and the training windows drawn from them."""
