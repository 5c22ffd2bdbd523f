"""Sequences of keypoints from data sets and videos, and the training windows drawn from them."""
