"""rerun recordings (.rrd): joints and bones over time; needs rerun-sdk.

Somebody who is out of view is not drawn. Time line: ``video``, seconds of the video.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from vp3d_cli.io.atomic import replacing
from vp3d_cli.io.poses.base import DEFAULT_OPTIONS, Exporter, ExportOptions
from vp3d_cli.io.poses.extras import import_extra
from vp3d_cli.io.poses.motion import Motion, motions_of
from vp3d_cli.pose import Pose3D

_JOINT_M, _BONE_M = 0.02, 0.012  # radii
_COLOURS = ((60, 120, 230), (240, 130, 40), (50, 170, 110), (170, 80, 190), (210, 190, 60))


def write_rerun(pose: Pose3D, path: Path, overwrite: bool = False, options: ExportOptions = DEFAULT_OPTIONS) -> None:
    """Write everyone of a pose into one recording.

    Raises:
        MissingDependencyError: rerun-sdk is not installed.
        OutputError: the file exists and ``overwrite`` is not set, or it cannot be written.
    """
    rerun = import_extra("rerun", "rerun-sdk", "rerun", "rerun")
    axes = rerun.ViewCoordinates.RDF if options.space == "camera" else rerun.ViewCoordinates.RIGHT_HAND_Z_UP
    with tempfile.TemporaryDirectory() as folder:
        whole = Path(folder) / "motion.rrd"  # rerun writes to paths only
        recording = rerun.RecordingStream("vp3d")
        recording.save(str(whole))
        recording.log("/", axes, static=True)
        for number, motion in enumerate(motions_of(pose, options)):
            _send(rerun, recording, motion, _COLOURS[number % len(_COLOURS)])
        recording.flush()
        recording.disconnect()
        data = whole.read_bytes()
    with replacing(path, overwrite) as file:
        file.write(data)


def _send(rerun: Any, recording: Any, motion: Motion, colour: tuple[int, int, int]) -> None:
    """Send joints and bones of one person for all frames.

    Frames in which the person is out of view have none.
    """
    entity = f"people/{motion.person}"
    there = motion.in_view
    joints = motion.joints[there].astype(np.float32)
    bones = [(parent, joint) for joint, parent in enumerate(motion.parents) if parent >= 0]
    strips = joints[:, bones].reshape(-1, 2, 3)
    names = list(motion.names)
    recording.log(
        f"{entity}/joints", rerun.Points3D.from_fields(radii=_JOINT_M, colors=colour, labels=names), static=True
    )
    recording.log(f"{entity}/joints", rerun.Points3D.from_fields(show_labels=False), static=True)
    recording.log(f"{entity}/bones", rerun.LineStrips3D.from_fields(radii=_BONE_M, colors=colour), static=True)
    indexes = [rerun.TimeColumn("video", duration=motion.times_s)]
    points = rerun.Points3D.columns(positions=joints.reshape(-1, 3)).partition(there * len(names))
    recording.send_columns(f"{entity}/joints", indexes=indexes, columns=points)
    lines = rerun.LineStrips3D.columns(strips=strips).partition(there * len(bones))
    recording.send_columns(f"{entity}/bones", indexes=indexes, columns=lines)


EXPORTER = Exporter(
    "rerun", ".rrd", "joints and bones over time for the rerun viewer; everyone in one file", write_rerun
)
