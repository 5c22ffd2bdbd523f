"""A made-up Human3.6M: the schema of the real one, bodies of one's own, everyone in view, nothing shared by parts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from motions import walk, write_archive
from typer.testing import CliRunner

from vp3d_cli.cli.main import app
from vp3d_cli.errors import ConfigError, OutputError
from vp3d_cli.paper.datasets.archives import (
    Positions2D,
    Positions3D,
    read_positions_2d,
    read_positions_3d,
    write_positions_3d,
)
from vp3d_cli.paper.datasets.cameras import cameras_of
from vp3d_cli.paper.datasets.capture_area import keep_in_capture_area
from vp3d_cli.paper.datasets.prepare import exact_keypoints, prepare
from vp3d_cli.paper.datasets.sequences import Archives
from vp3d_cli.paper.datasets.specs import DATASETS, select_joints
from vp3d_cli.paper.datasets.synthetic import synthesize
from vp3d_cli.skeletons import H36M17
from vp3d_cli.train.mocap.motion import MotionClip, read_motion

SPEC = DATASETS["human36m"]
FRAMES = 50  # of each of 209 sequences
MINUTES = FRAMES * 209 / 50 / 60


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    synthesize(read_motion(write_archive(folder / "motion.npz")), folder / "data", minutes=MINUTES, seed=3)
    return folder / "data"


@pytest.fixture(scope="module")
def joints(made: Path) -> Positions3D:
    return read_positions_3d(made / "data_3d_h36m.npz")


@pytest.fixture(scope="module")
def exact(made: Path) -> Positions2D:
    return read_positions_2d(made / "data_2d_h36m_gt.npz")


def test_schema_of_the_real_one(joints: Positions3D, exact: Positions2D, made: Path) -> None:
    assert tuple(joints.subjects) == SPEC.subjects
    for subject, sequences in joints.subjects.items():
        expected = {f"{action}{take}" for action in SPEC.actions for take in ("", " 1")}
        assert set(sequences) == expected - ({"Directions"} if subject == "S11" else set())
        assert all(values.shape == (FRAMES, 32, 3) and values.dtype == np.float32 for values in sequences.values())
    assert exact.layout == "h36m17"
    assert read_positions_2d(made / "data_2d_h36m_cpn_ft_h36m_dbb.npz").layout == "h36m17"
    assert read_positions_2d(made / "data_2d_h36m_detectron_pt_coco.npz").layout == "coco17"


def test_it_says_of_itself_that_it_is_made_up(made: Path, joints: Positions3D, tmp_path: Path) -> None:
    assert joints.synthetic
    assert Archives(made, "human36m", "gt").notes(("S9",))[0].startswith("synthetic data")
    # Also after it was prepared once more; VideoPose3D, which looks for nothing else, finds the joints.
    again = prepare("human36m", made / "data_3d_h36m.npz", tmp_path / "out")
    assert again.notes[0].startswith("synthetic data")
    assert again.files[0].read_bytes() == (made / "data_3d_h36m.npz").read_bytes()
    with np.load(again.files[0], allow_pickle=True) as archive:
        assert tuple(archive["positions_3d"].item()) == SPEC.subjects
    write_positions_3d(tmp_path / "data_3d_h36m.npz", joints.subjects)
    assert not read_positions_3d(tmp_path / "data_3d_h36m.npz").synthetic


def test_exact_keypoints_are_what_preparation_would_make(joints: Positions3D, exact: Positions2D) -> None:
    projected = exact_keypoints({"S9": joints.subjects["S9"]})["S9"]
    for name, cameras in exact.subjects["S9"].items():
        for ours, again in zip(cameras, projected[name], strict=True):
            np.testing.assert_allclose(ours, again, atol=1e-3)


def test_everyone_is_in_view_of_all_cameras_and_on_the_floor(joints: Positions3D, exact: Positions2D) -> None:
    inside = []
    for subject, sequences in exact.subjects.items():
        sizes = [camera.size_wh for camera in cameras_of("human36m", subject)]
        for cameras in sequences.values():
            inside += [((view >= 0) & (view <= size)).mean() for view, size in zip(cameras, sizes, strict=True)]
    assert np.mean(inside) > 0.999
    for sequences in joints.subjects.values():
        for values in sequences.values():
            assert values[..., 2].min() == pytest.approx(0, abs=1e-3)
            assert values[:, 15, 2].max() < 2.1
            assert np.linalg.norm(values[:, 0, :2], axis=1).max() < 1.25


def bones(values: np.ndarray) -> np.ndarray:
    selected = select_joints(values, SPEC)
    return np.array([np.linalg.norm(selected[:, a] - selected[:, b], axis=-1) for a, b in H36M17.bones])


def test_every_subject_has_one_body_of_their_own(joints: Positions3D) -> None:
    bodies = {}
    for subject, sequences in joints.subjects.items():
        lengths = np.concatenate([bones(values) for values in sequences.values()], axis=1)
        assert lengths.std(axis=1).max() < 1e-3
        bodies[subject] = lengths.mean(axis=1)
    subjects = list(bodies)
    for i, a in enumerate(subjects):
        for b in subjects[i + 1 :]:
            assert np.abs(bodies[a] - bodies[b]).max() > 0.005


def test_steps_are_kept(joints: Positions3D) -> None:
    # People walk rather than stand or slide: as fast as the motion that they perform.
    path = joints.subjects["S1"]["Walking"][:, 0, :2]
    speed = np.linalg.norm(np.diff(path, axis=0), axis=1) * SPEC.fps
    assert 0.4 < np.median(speed) < 2.0


def test_detections_err_as_detectors_do(exact: Positions2D, made: Path) -> None:
    found = read_positions_2d(made / "data_2d_h36m_cpn_ft_h36m_dbb.npz")
    errors = [
        np.linalg.norm(a - b, axis=-1).mean()
        for s, sequences in exact.subjects.items()
        for name, cameras in sequences.items()
        for a, b in zip(cameras, found.subjects[s][name], strict=True)
    ]
    assert 1.0 < np.mean(errors) < 8.0
    assert np.isfinite(errors).all()


def test_the_same_seed_gives_the_same_bytes_and_another_gives_others(made: Path, tmp_path: Path) -> None:
    clips = read_motion(write_archive(tmp_path / "motion.npz"))
    # Without detections too.
    same = synthesize(clips, tmp_path / "same", minutes=MINUTES, seed=3, detections=False)
    assert [file.name for file in same.files] == ["data_3d_h36m.npz", "data_2d_h36m_gt.npz"]
    for file in same.files:
        assert (made / file.name).read_bytes() == file.read_bytes()
    other = synthesize(clips, tmp_path / "other", minutes=MINUTES, seed=4, detections=False)
    assert other.files[0].read_bytes() != same.files[0].read_bytes()


def test_test_subjects_perform_other_clips(tmp_path: Path) -> None:
    # Clips that can be told apart: each stoops by another amount, whatever the body.
    clips = []
    for i in range(3):
        joints = walk(120, 50.0, 0.8)
        joints[:, 1:, 1] += 0.25 * i * (joints[:, 1:, 2] - joints[:, :1, 2])
        clips.append(MotionClip(f"c{i}", "made-up", "made up", 50.0, joints.astype(np.float32)))
    result = synthesize(clips, tmp_path / "data", minutes=MINUTES, detections=False)
    stoop = {
        subject: {round(float(np.median(_lean(values))), 1) for values in sequences.values()}
        for subject, sequences in result.joints.items()
    }
    trained = set().union(*(stoop[s] for s in SPEC.train))
    tested = set().union(*(stoop[s] for s in SPEC.test))
    assert len(trained) == 2
    assert len(tested) == 1
    assert not trained & tested


def _lean(values: np.ndarray) -> np.ndarray:
    """How far the thorax leans from the hip, against the length between them."""
    trunk = values[:, 13] - values[:, 0]
    return np.asarray(np.linalg.norm(trunk[:, :2], axis=1) / np.linalg.norm(trunk, axis=1))


def test_one_clip_is_divided(tmp_path: Path) -> None:
    clip = MotionClip("only", "made-up", "made up", 50.0, walk(90, 50.0, 1.0))
    assert synthesize([clip], tmp_path / "data", minutes=4, detections=False).files


def test_what_cannot_be_made(tmp_path: Path) -> None:
    clips = read_motion(write_archive(tmp_path / "motion.npz"))
    with pytest.raises(ConfigError, match=r"less than a second a sequence; give 3\.5 or more"):
        synthesize(clips, tmp_path / "data", minutes=1)
    with pytest.raises(ConfigError, match="no motion"):
        synthesize([], tmp_path / "data")
    (tmp_path / "data").mkdir()
    (tmp_path / "data/data_3d_h36m.npz").touch()
    with pytest.raises(OutputError, match="exists already"):
        synthesize(clips, tmp_path / "data")


def test_steering_turns_a_straight_walk_into_a_small_space() -> None:
    joints = walk(1500, 50.0, 1.0)  # 36 metres straight on
    steered = keep_in_capture_area(joints, 50.0)
    radius = np.linalg.norm(steered[:, 0, :2], axis=1)
    assert radius.max() <= 1.2 + 1e-6
    # Bodies are turned, not bent, and steps stay as long, but for the few that are held back.
    before, after = (np.linalg.norm(x[:, 1:] - x[:, :1], axis=-1) for x in (joints, steered))
    np.testing.assert_allclose(after, before, atol=1e-4)
    steps = [np.linalg.norm(np.diff(x[:, 0, :2], axis=0), axis=1) for x in (joints, steered)]
    assert np.mean(np.abs(steps[0] - steps[1]) < 1e-4) > 0.9
    np.testing.assert_array_equal(steered[..., 2], joints[..., 2])
    # One who stays is left alone.
    still = joints[:100] - joints[:100, :1] * np.array([1, 1, 0], np.float32)
    np.testing.assert_allclose(keep_in_capture_area(still, 50.0), still, atol=1e-6)


def test_command(tmp_path: Path) -> None:
    motion = write_archive(tmp_path / "motion.npz")
    arguments = ["data", "synthesize", "human36m", "--motion", str(motion), "--out", str(tmp_path / "data")]
    done = CliRunner().invoke(app, [*arguments, "--minutes", "4", "--no-detections"])
    assert done.exit_code == 0, done.output
    assert [Path(line).name for line in done.stdout.split()] == ["data_3d_h36m.npz", "data_2d_h36m_gt.npz"]
    assert "test" in done.stderr
    arguments[2] = "humaneva"
    assert CliRunner().invoke(app, arguments).exit_code == 2
