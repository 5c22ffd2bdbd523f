"""The public functions: models loaded once, arrays in, arrays out, and skeletons that pass through without loss."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from conftest import RunCli

import vp3d_cli as vp3d
from vp3d_cli.errors import ConfigError, InputError, NobodyFoundError, ShapeError
from vp3d_cli.skeletons import BLAZEPOSE33, COCO17, COCO133, HALPE26, MPII16, Skeleton
from vp3d_cli.testing import example_pose
from vp3d_cli.types import FloatArray

SIZE_WH = (640, 480)


def keypoints_of(skeleton: Skeleton, frames: int = 45) -> FloatArray:
    """(T, K, 2) a walker in any skeleton: joints beyond COCO's lie a little beside what they hang on."""
    track = example_pose(frames)[0].track
    points = np.zeros((frames, skeleton.num_joints, 2), np.float32)
    for i, name in enumerate(skeleton.joints):
        anchor = name if name in COCO17.joints else "nose"
        if name not in COCO17.joints and skeleton.parents[i] >= 0:
            parent = skeleton.joints[skeleton.parents[i]]
            anchor = parent if parent in COCO17.joints else "nose"
        points[:, i] = track.keypoints[:, COCO17.index(anchor)] + (0 if name in COCO17.joints else 1 + i % 7)
    return points


@pytest.mark.parametrize("skeleton", [HALPE26, COCO133, BLAZEPOSE33])
def test_all_keypoints_pass_through_and_the_lifter_takes_its_own(skeleton: Skeleton, tmp_path: Path) -> None:
    points = keypoints_of(skeleton)
    usual = vp3d.lift(keypoints_of(COCO17), fps=30, size_wh=SIZE_WH, lifter="pose-27")
    pose = vp3d.lift(points, fps=30, size_wh=SIZE_WH, skeleton=skeleton.name, lifter="pose-27")
    assert pose.joint_names_2d == skeleton.joints
    assert pose.keypoints_2d.shape == (1, len(points), skeleton.num_joints, 2)
    np.testing.assert_allclose(pose.keypoints_2d[0], points, atol=8.0)  # smoothed
    np.testing.assert_allclose(pose.joints_3d, usual.joints_3d, atol=2e-3)
    pose.save(tmp_path / "pose.npz")
    again = vp3d.read(tmp_path / "pose.npz")
    assert isinstance(again, vp3d.Pose3D)
    assert again[0].track.skeleton == skeleton
    np.testing.assert_array_equal(again.keypoints_2d, pose.keypoints_2d)


def test_detections_of_any_skeleton_are_tracked_without_loss(tmp_path: Path) -> None:
    points = keypoints_of(HALPE26)
    boxes = np.concatenate([points.min(axis=1), points.max(axis=1)], axis=1)
    scores = np.full(points.shape[:2], 0.8, np.float32)
    frames = [
        vp3d.Keypoints2D(boxes[[t]], points[[t]], scores[[t]], np.ones(1, np.float32), HALPE26)
        for t in range(len(points))
    ]
    detections = vp3d.Detections(frames, np.arange(len(points)) / 30, 30.0, SIZE_WH)
    detections.save(tmp_path / "d.npz")
    pose = vp3d.lift(tmp_path / "d.npz", smooth=0, lifter="pose-27")
    np.testing.assert_allclose(pose.keypoints_2d[0], points, atol=1e-3)
    assert pose.observed.all()


def test_a_skeleton_without_the_joints_of_the_lifter() -> None:
    toy = Skeleton("toy", ("nose", "left_hip", "right_hip"), (-1, 0, 0), ())
    with pytest.raises(InputError, match=r"skeleton 'toy'.* lack joints .*left_shoulder.*right_ankle"):
        vp3d.lift(np.full((10, 3, 2), 50.0), size_wh=SIZE_WH, skeleton=toy)
    pose = vp3d.lift(keypoints_of(MPII16), size_wh=SIZE_WH, skeleton="mpii16", lifter="pose-27")  # no face: fine
    assert np.isfinite(pose.joints_3d).all()


def test_several_people_and_missing_keypoints() -> None:
    one = keypoints_of(COCO17)
    two = one + [150, 0]
    two[:20] = np.nan
    pose = vp3d.lift(np.stack([one, two]), fps=25, size_wh=SIZE_WH, lifter="pose-27")
    assert pose.person_ids == (1, 2)
    assert pose[1].track.frames == slice(20, 45)
    assert pose[1].times_s is not None
    np.testing.assert_allclose(pose[1].times_s, np.arange(20, 45) / 25)
    assert [person.id for person in pose] == [1, 2]
    assert pose.person(2) is pose[1]
    with pytest.raises(ConfigError, match="no person 5 in this pose; people: 1, 2"):
        pose.person(5)


def test_a_pipeline_keeps_its_models(short_clip: Path, tmp_path: Path) -> None:
    with vp3d.Pipeline(lifter="pose-27", max_people=1) as pipeline:
        detections = pipeline.detect(short_clip)
        lifter = pipeline._models.lifter
        pose = pipeline.lift(detections)
        smoother = pipeline.lift(detections, smooth=5)
        assert pipeline._models.lifter is lifter
        other = pipeline.lift(detections, lifter="open-27")
        whole = pipeline.infer(short_clip, tmp_path / "whole.npz")
    assert isinstance(detections, vp3d.Detections)
    assert len(pose) == 1
    assert other.provenance["lifter"]["name"] == "open-27"
    assert not np.array_equal(smoother.joints_3d, pose.joints_3d)
    np.testing.assert_allclose(whole.joints_3d, pose.joints_3d, atol=1e-4)
    assert [path.name for path in tmp_path.iterdir()] == ["whole.npz"]


def test_public_names_are_functions_though_packages_have_the_same_names() -> None:
    import vp3d_cli.render.view  # noqa: F401 (a package of this name is loaded)

    assert callable(vp3d.render)
    assert callable(vp3d.lift)
    assert callable(vp3d.detect)


def test_containers_are_short_to_print_and_compared_by_identity() -> None:
    pose = example_pose()
    assert len(repr(pose)) < 300
    assert "joints (40, 17, 3)" in repr(pose)
    assert pose == pose
    assert pose != example_pose()
    assert pose.skeleton.name == "h36m17"


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ({"keypoints": np.zeros((5, 3, 2))}, ShapeError, r"expected shape \(T, 17, 2\) or \(P, T, 17, 2\)"),
        ({"skeleton": "octopus"}, ConfigError, "unknown skeleton 'octopus'"),
        ({"fps": 0}, ConfigError, "fps must be a positive number"),
        ({"size_wh": None}, ConfigError, "give size_wh"),
        ({"colour": 3}, ConfigError, "unknown setting colour; known: detector, lifter"),
        ({"keypoints": np.full((5, 17, 2), np.nan)}, NobodyFoundError, "nobody was found"),
        ({"lifter": "nobody's"}, vp3d.Vp3dError, "nobody's"),
    ],
)
def test_bad_arguments(arguments: dict[str, object], error: type[Exception], says: str) -> None:
    given: dict[str, object] = {"keypoints": keypoints_of(COCO17), "size_wh": SIZE_WH} | arguments
    with pytest.raises(error, match=says):
        vp3d.lift(**given)  # type: ignore[arg-type]


def test_detect_and_lift_give_what_infer_gives(run_cli: RunCli, short_clip: Path, tmp_path: Path) -> None:
    files = {name: tmp_path / f"{name}.npz" for name in ("d", "lifted", "whole")}
    assert run_cli("detect", short_clip, "--out", files["d"], "--quiet").stdout == f"{files['d']}\n"
    assert run_cli("lift", files["d"], "--out", files["lifted"], "--quiet").stdout == f"{files['lifted']}\n"
    assert run_cli("infer", short_clip, "--out", files["whole"], "--quiet").code == 0
    lifted, whole = vp3d.read(files["lifted"]), vp3d.read(files["whole"])
    assert isinstance(lifted, vp3d.Pose3D)
    assert isinstance(whole, vp3d.Pose3D)
    np.testing.assert_allclose(lifted.joints_world, whole.joints_world, atol=1e-5)
    assert lifted.provenance["video"] == str(short_clip)
    again = run_cli("infer", short_clip, "--keypoints", files["d"], "--out", tmp_path / "k.npz", "--quiet")
    assert again.code == 0
    brought = vp3d.read(tmp_path / "k.npz")
    assert isinstance(brought, vp3d.Pose3D)
    np.testing.assert_allclose(brought.joints_world, whole.joints_world, atol=1e-5)


def test_bad_files_for_lift(run_cli: RunCli, tmp_path: Path) -> None:
    nobody = vp3d.Detections([vp3d.Keypoints2D.empty()] * 3, np.arange(3) / 30, 30.0, SIZE_WH, video="grey.mp4")
    nobody.save(tmp_path / "nobody.npz")
    (tmp_path / "text.npz").write_text("hello")
    example_pose().save(tmp_path / "pose.npz")
    for file, code, says in (
        ("nobody.npz", 3, "grey.mp4: nobody was found in 3 frames"),
        ("text.npz", 1, "is not a detections file; make one with vp3d detect"),
        ("pose.npz", 1, "is not a detections file"),
        ("nothing.npz", 1, "no such file"),
    ):
        outcome = run_cli("lift", tmp_path / file, "--out", tmp_path / "out.npz")
        assert outcome.code == code, outcome
        assert says in outcome.error_lines[-1]
        assert not (tmp_path / "out.npz").exists()
    outcome = run_cli("lift", tmp_path / "nobody.npz", "--out", tmp_path / "nobody.npz", "--overwrite")
    assert outcome.code == 2
    assert "give the result another name" in outcome.stderr


def test_other_formats_are_written_directly(run_cli: RunCli, tmp_path: Path) -> None:
    one = keypoints_of(COCO17)
    both = np.stack([one, one + [150, 0]])
    pose = vp3d.lift(both, size_wh=SIZE_WH, lifter="pose-27")
    assert all(person.rig is not None for person in pose)
    pose.save(tmp_path / "walk.bvh")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["walk_1.bvh", "walk_2.bvh"]
    [first, second] = pose.angles(["left_knee_flexion"])
    assert (first.person_id, second.person_id) == (1, 2)
    assert len(repr(first)) < 100
    boxes = np.concatenate([both.min(axis=2), both.max(axis=2)], axis=2)
    frames = [
        vp3d.Keypoints2D(boxes[:, t], both[:, t], np.full((2, 17), 0.9, np.float32), np.ones(2, np.float32))
        for t in range(len(one))
    ]
    vp3d.Detections(frames, np.arange(len(one)) / 30, 30.0, SIZE_WH).save(tmp_path / "d.npz")
    outcome = run_cli("lift", tmp_path / "d.npz", "--out", tmp_path / "two.bvh", "--lifter", "pose-27", "--quiet")
    assert outcome.code == 0, outcome
    assert outcome.stdout.splitlines() == [str(tmp_path / f"two_{i}.bvh") for i in (1, 2)]
    outcome = run_cli("lift", tmp_path / "d.npz", "--out", tmp_path / "two.bvh", "--lifter", "pose-27")
    assert (outcome.code, len(outcome.error_lines)) == (1, 1)  # before any work
    assert "two_1.bvh: exists already" in outcome.stderr
    outcome = run_cli("lift", tmp_path / "d.npz", "--out", tmp_path / "two.xyz")
    assert outcome.code == 1
    assert "unknown ending; use one of .npz, .bvh" in outcome.error_lines[-1]
