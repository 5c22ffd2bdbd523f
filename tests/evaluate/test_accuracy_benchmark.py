"""benchmarks/accuracy.py: marker-based truth, the tables, and bad input."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from evaluation import SHORT
from poses import walking_pose

from benchmarks import accuracy
from vp3d_cli.errors import InputError
from vp3d_cli.evaluate.scores import Scores
from vp3d_cli.pose import Pose3D
from vp3d_cli.skeletons import H36M_LIMBS


def marker_file(path: Path, pose: Pose3D, **changes: Any) -> Path:
    """Truth of the first person, y up, larger, turned, and in another order of joints."""
    joints = pose.people[0].joints_world[:, H36M_LIMBS].astype(np.float64)
    turned = 1.1 * joints[..., [1, 2, 0]] + [3.0, 0.5, -2.0]
    content = {"joints": turned[:, ::-1], "joint_names": np.array(SHORT[::-1]), "times_s": pose.frame_times_s}
    np.savez(path, **{k: v for k, v in {**content, **changes}.items() if v is not None})
    return path


def test_axes_and_scale_of_the_markers_do_not_matter(tmp_path: Path) -> None:
    pose = walking_pose(people=1, frames=20)
    valid = np.arange(20) < 15
    truth = accuracy.read_markers(marker_file(tmp_path / "gt.npz", pose, valid=valid))
    scores = accuracy.score_markers(pose, truth, "walk")
    assert (scores.frames, scores.missing) == (15, 0)
    figures = [getattr(scores, name) for name in ("p_mpjpe", "n_mpjpe", "mpjve", "trajectory_aligned")]
    assert figures == pytest.approx([0.0] * 4, abs=0.01)


def test_an_offset_wrist_is_measured(tmp_path: Path) -> None:
    pose = walking_pose(people=1, frames=20)
    path = marker_file(tmp_path / "gt.npz", pose)
    exact = accuracy.read_markers(path)
    moved = exact.joints.copy()
    moved[:, accuracy.LIMB_JOINTS.index("left_wrist")] += [0.0, 0.11, 0.0]
    scores = accuracy.score_markers(pose, accuracy.MarkerTruth(moved, exact.times_s), "walk")
    assert 5 < scores.p_mpjpe < 25
    assert dict(zip(scores.joints, scores.joints_p, strict=True))["left_wrist"] == max(scores.joints_p)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"times_s": None}, "needs joints, joint_names, times_s"),
        ({"joint_names": np.array(["lhip"] * 12)}, "lacks the joints left_shoulder"),
        ({"joints": np.zeros((20, 3))}, r"joints must be \(T, J, 3\)"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, changes: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        accuracy.read_markers(marker_file(tmp_path / "gt.npz", walking_pose(people=1), **changes))


def test_tables_and_commands() -> None:
    arguments = [
        "--lifter",
        "a",
        "--lifter",
        "b",
        "--markers",
        "my walk.mp4",
        "gt.npz",
        "--calibrated",
        "c.npz",
        "1.mp4",
    ]
    given = accuracy.parse(arguments)
    assert accuracy.commands(given, arguments) == [
        "python benchmarks/accuracy.py --lifter a --lifter b --markers 'my walk.mp4' gt.npz --calibrated c.npz 1.mp4",
        "vp3d evaluate --calibrated c.npz --video 1.mp4 --weights a --weights b --detector movenet",
        "vp3d infer 'my walk.mp4' --lifter a --max-people 1 --detector movenet --out 'my walk-a.npz'",
        "vp3d infer 'my walk.mp4' --lifter b --max-people 1 --detector movenet --out 'my walk-b.npz'",
    ]
    scores = [Scores("x", 75, p_mpjpe=p, n_mpjpe=50.0, mpjve=5.0, trajectory_aligned=20.0) for p in (40.0, 38.04)]
    results = {"walk": dict(zip("ab", scores, strict=True))}
    assert accuracy.overview(results)[-1] == "| walk | 40.0 | **38.0** |"
    assert accuracy.details(results)[-2:] == [
        "| walk | a | 75 | 0 | 40.0 | 50.0 | 5.0 | 20.0 |",
        "| walk | b | 75 | 0 | 38.0 | 50.0 | 5.0 | 20.0 |",
    ]


@pytest.mark.parametrize(
    "arguments",
    [[], ["--calibrated", "gt.npz"], ["--markers", "a/walk.mp4", "a.npz", "--markers", "b/walk.mp4", "b.npz"]],
)
def test_incomplete_arguments(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        accuracy.main(arguments)
    assert stopped.value.code == 2


def test_missing_files(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="error: no marker-based truth at"):
        accuracy.main(["--markers", "walk.mp4", str(tmp_path / "gone.npz")])
