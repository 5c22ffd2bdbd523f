"""The web viewer: a self-contained page that plays 3D motion in a browser.

Start reading with ``page.py``.
"""
