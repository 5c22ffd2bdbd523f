"""The web viewer: a self-contained page that plays 3D motion in a browser; start with ``page.py``."""
