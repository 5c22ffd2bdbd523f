"""From a video to 3D motion. Read infer.py first: it shows all stages on one page."""
