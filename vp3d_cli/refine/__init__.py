"""Refinement after lifting: root trajectory, reprojection, bone lengths, world space.

The entry point for world space is :func:`vp3d_cli.refine.world.to_world`: gravity, floor, foot contacts, foot locking.
"""
