"""Tracking: joins the detections of all frames into one track per person.

``track_people`` is the stage. ``CutDetector`` finds the shot boundaries that it takes as input. ``select_people`` and
``select_in_roi`` select from its result.
"""

from vp3d_cli.track.selection import select_in_roi, select_people, split_partial
from vp3d_cli.track.shot_boundaries import CutDetector
from vp3d_cli.track.tracker import track_people

__all__ = ["CutDetector", "select_in_roi", "select_people", "split_partial", "track_people"]
