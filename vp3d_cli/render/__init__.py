"""Rendering of a pose: the side-by-side video and the contact sheet, drawn with OpenCV."""
