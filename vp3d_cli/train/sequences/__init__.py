"""Recorded 2D keypoint sequences of data sets and videos, and the training windows drawn from them."""
