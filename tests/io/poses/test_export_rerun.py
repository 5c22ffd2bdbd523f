"""rerun recordings, read back by rerun's own reader."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from rigs import rigged_pose

from vp3d_cli.io.poses import export_pose


def test_joints_are_there_but_in_gaps(tmp_path: Path) -> None:
    pytest.importorskip("rerun")
    chunk = pytest.importorskip("rerun.chunk")
    pose = rigged_pose(people=2, gaps=True)
    (file,), warnings = export_pose(pose, tmp_path / "walk.rrd")
    assert warnings == []
    found: dict[int, list[tuple[float, list[list[float]]]]] = {1: [], 2: []}
    for part in chunk.RrdReader(str(file)).stream():
        if part.entity_path in ("/people/1/joints", "/people/2/joints") and not part.is_static:
            table = part.to_record_batch()
            (positions,) = (name for name in table.schema.names if name.endswith("positions"))
            seconds = [nanoseconds / 1e9 for nanoseconds in table["video"].cast("int64").to_pylist()]
            points = table[positions].to_pylist()
            found[int(part.entity_path.split("/")[2])] += zip(seconds, points, strict=True)
    for person, rows in found.items():
        rows.sort()
        np.testing.assert_allclose([time for time, _ in rows], pose.frame_times_s, atol=1e-5)
        for frame, (_, points) in enumerate(rows):
            wanted = pose.joints_world[person - 1, frame]
            if np.isnan(wanted).any():
                assert points == []
            else:
                np.testing.assert_allclose(points, wanted, atol=1e-6)
