"""Finding people and their 2D keypoints in frames; see base.py for the protocol and the registry."""
