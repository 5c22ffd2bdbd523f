"""Measures of the motion: joint angles, gait, repeated movements, ranges of motion, plots.

Read ``angles.py`` first; ``gait.py`` and ``movement.py`` build on it, ``tables.py`` writes CSV and JSON.
"""
