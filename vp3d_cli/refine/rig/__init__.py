"""Fit a rig to a person's motion: constant bone lengths, joint rotations. Start with fit.py."""
