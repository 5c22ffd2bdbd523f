"""The commands of ``vp3d``: each parses its options, calls the library and prints.

Nothing heavy is imported at the top of these modules: a command loads what it needs when it runs, so that
``vp3d --help`` answers at once.
"""
