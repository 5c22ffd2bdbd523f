"""Reading and writing files: poses/, keypoints/, and atomic writes. Start with atomic.py."""
