"""Refinement after lifting, in camera space (trajectory.py, reprojection.py, bone_lengths.py) and world space.

The entry point for world space is :func:`vp3d_cli.refine.world.to_world`: gravity, floor, foot contacts, foot locking.
"""
