"""Pictures of a pose: the side-by-side video and the contact sheet, all drawn with OpenCV."""
