"""Tracking: from the people of each frame to one track per person.

``track_people`` is the stage; ``CutDetector`` finds the camera cuts that it takes; ``select_people`` and
``select_in_roi`` pick from its result.
"""

from vp3d_cli.track.selection import select_in_roi, select_people
from vp3d_cli.track.shot_boundaries import CutDetector
from vp3d_cli.track.tracker import track_people

__all__ = ["CutDetector", "select_in_roi", "select_people", "track_people"]
