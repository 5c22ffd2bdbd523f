"""The whole way, on the real example clip and on made-up keypoints."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import RunCli
from running import find_keypoints, infer

from tests.motions import ARCHIVE_JOINTS, walk
from vp3d_cli import metrics
from vp3d_cli.camera import Intrinsics, project
from vp3d_cli.errors import ConfigError, NobodyFoundError, VideoError, WeightsError
from vp3d_cli.io.poses.npz import read_npz
from vp3d_cli.lift.lifter import load_lifter
from vp3d_cli.pipeline import api
from vp3d_cli.pipeline import infer as pipeline
from vp3d_cli.pipeline.drawing import preview, render
from vp3d_cli.pipeline.infer import lift_person
from vp3d_cli.pipeline.run import Models, Run
from vp3d_cli.pipeline.settings import InferSettings
from vp3d_cli.pipeline.summary import summarize
from vp3d_cli.pose import Pose3D
from vp3d_cli.skeletons import COCO17, COCO_LIMBS, H36M17, H36M_LIMBS
from vp3d_cli.types import DoubleArray, Track2D

COCO_NAMES = [name.replace("left_", "l").replace("right_", "r") for name in COCO17.joints]
CAMERA = Intrinsics.from_fov(60, (1280, 720)).as_tuple()


@pytest.fixture(scope="session")
def demo_pose(demo: Path, tmp_path_factory: pytest.TempPathFactory) -> Pose3D:
    out = tmp_path_factory.mktemp("demo") / "pose.npz"
    settings = InferSettings()
    api.infer_to_file(demo, out, settings, Run(Models(settings), provenance={"command": "the tests"}))
    return read_npz(out)


def seen_for(pose: Pose3D) -> list[int]:
    return [int(np.isfinite(person).all(axis=(1, 2)).sum()) for person in pose.joints_3d]


def test_both_people_of_the_example_are_found(demo_pose: Pose3D) -> None:
    assert demo_pose.num_frames == 230
    assert demo_pose.video_size_wh == (1768, 994)
    frames = sorted(seen_for(demo_pose), reverse=True)
    assert frames[0] > 150
    assert frames[1] > 140
    assert sum(frames[2:]) < 60


def test_bones_of_the_example_have_human_lengths(demo_pose: Pose3D) -> None:
    for person in range(2):
        joints = demo_pose.joints_3d[person]
        there = np.isfinite(joints).all(axis=(1, 2))
        for limb, low, high in ((("hip", "knee"), 0.33, 0.55), (("knee", "ankle"), 0.33, 0.55)):
            for side in ("left", "right"):
                a, b = (H36M17.index(f"{side}_{joint}") for joint in limb)
                length = float(np.median(np.linalg.norm(joints[there, a] - joints[there, b], axis=1)))
                assert low < length < high


def test_reprojection_of_the_example_meets_its_keypoints(demo_pose: Pose3D) -> None:
    for person in range(2):
        joints = demo_pose.joints_3d[person] + demo_pose.trajectory[person][:, None]
        pixels = project(joints.astype(np.float64), demo_pose.intrinsics)
        off = np.linalg.norm(pixels[:, H36M_LIMBS] - demo_pose.keypoints_2d[person][:, COCO_LIMBS], axis=-1)
        box = demo_pose.boxes_xyxy[person]
        height = np.nanmedian(box[:, 3] - box[:, 1])
        assert np.nanmedian(off) < 0.05 * height


def test_the_flip_is_upside_down_in_the_air(demo_pose: Pose3D) -> None:
    """Whoever turns a back flip has their head below their hips for a moment, well above the floor."""
    heights = demo_pose.joints_world[:2, :, [H36M17.index("head"), H36M17.index("hip")], 2]
    below = np.nan_to_num(heights[..., 0] - heights[..., 1], nan=1.0)
    flipper, frame = np.unravel_index(int(below.argmin()), below.shape)
    assert below[flipper, frame] < -0.2
    assert np.nanmin(demo_pose.joints_world[flipper, frame, :, 2]) > 0.4


def test_the_walker_walks_upright_on_the_floor(demo_pose: Pose3D) -> None:
    travelled = [float(np.ptp(person[np.isfinite(person[:, 0, 0]), 0, 0])) for person in demo_pose.joints_world[:2]]
    walker = int(np.argmax(travelled))
    world = demo_pose.joints_world[walker]
    world = world[np.isfinite(world).all(axis=(1, 2))]
    assert travelled[walker] > 2.0
    assert np.median(world[:, H36M17.index("head"), 2]) == pytest.approx(1.65, abs=0.2)
    assert np.abs(np.median(world[..., 2].min(axis=1)) - 0.08) < 0.1


def test_the_file_says_how_it_was_made(demo_pose: Pose3D) -> None:
    provenance = demo_pose.provenance
    assert provenance["command"] == "the tests"
    assert provenance["detector"]["name"] == "movenet"
    assert len(provenance["lifter"]["sha256"]) == 64
    assert provenance["assumed"] == {"height_m": 1.7, "camera": "does not move", "fov_deg": 60.0}
    assert provenance["timing"]["seconds"] > 0
    summary = summarize(demo_pose)
    assert summary.frames == 230
    assert summary.people[0].seconds_seen == pytest.approx(seen_for(demo_pose)[0] / 30, rel=0.02)
    assert 0.4 < summary.people[0].mean_confidence <= 1


def test_keypoints_written_and_read_again_give_the_same_motion(short_clip: Path, tmp_path: Path) -> None:
    pose = infer(short_clip, settings=InferSettings(smooth=0))
    find_keypoints(short_clip, tmp_path / "k.npz")
    again = infer(short_clip, settings=InferSettings(smooth=0, keypoints=str(tmp_path / "k.npz")))
    np.testing.assert_allclose(again.joints_3d, pose.joints_3d, atol=2e-4)
    assert again.provenance["detector"] == pose.provenance["detector"]


def test_info_knows_keypoint_files(short_clip: Path, tmp_path: Path, run_cli: RunCli) -> None:
    find_keypoints(short_clip, tmp_path / "k.npz")
    told = run_cli("info", tmp_path / "k.npz", "--json")
    facts = json.loads(told.stdout)
    assert (facts["format"], facts["layout"], facts["frames"]) == ("vp3d", "coco17", 12)
    assert facts["people"] >= 1


def test_choosing_people(short_clip: Path) -> None:
    everyone = infer(short_clip)
    main = infer(short_clip, settings=InferSettings(max_people=1))
    assert main.person_ids == everyone.person_ids[:1]
    number = everyone.person_ids[-1]
    assert infer(short_clip, settings=InferSettings(person=str(number))).person_ids == (number,)
    with pytest.raises(NobodyFoundError):
        infer(short_clip, settings=InferSettings(roi=(1700, 900, 20, 20)))
    with pytest.raises(ConfigError, match="no person 99"):
        infer(short_clip, settings=InferSettings(person="99"))


def test_preview_is_a_picture(short_clip: Path, tmp_path: Path) -> None:
    image = cv2.imread(str(preview(short_clip, tmp_path / "sheet.png")))
    assert image is not None
    assert image.shape[1] == 1920


def test_a_part_of_the_video_keeps_its_times(demo: Path) -> None:
    pose = infer(demo, settings=InferSettings(start_s=1.0, end_s=1.2, tta=False))
    np.testing.assert_allclose(pose.frame_times_s, 1.0 + np.arange(6) / 30, atol=1e-3)


def test_render_is_as_long_as_the_pose(short_clip: Path, tmp_path: Path) -> None:
    pose = infer(short_clip)
    render(pose, short_clip, tmp_path / "side.mp4", height=240)
    capture = cv2.VideoCapture(str(tmp_path / "side.mp4"))
    assert int(capture.get(cv2.CAP_PROP_FRAME_COUNT)) == 12
    assert int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT)) == 240
    capture.release()


def test_one_frame(demo: Path, tmp_path: Path, ffmpeg: Callable[..., None]) -> None:
    ffmpeg("-i", demo, "-frames:v", 1, "-an", tmp_path / "one.mp4")
    pose = infer(tmp_path / "one.mp4")
    assert pose.num_frames == 1
    assert np.isfinite(pose.joints_world[0]).all()


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"smooth": -1.0}, "smooth"),
        ({"height_m": 20.0}, "height"),
        ({"max_people": 0}, "max_people"),
        ({"intrinsics": (1.0, 1.0, 0.0, 0.0), "fov_deg": 60.0}, "not both"),
        ({"fov_deg": 200.0}, "field of view"),
        ({"layout": "coco17"}, "keypoint file"),
        ({"device": "tpu"}, "unknown device 'tpu'; choose one of auto, cpu, cuda"),
    ],
)
def test_settings_that_make_no_sense(values: dict[str, object], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        InferSettings(**values)  # type: ignore[arg-type]


@pytest.mark.parametrize("format", ["vp3d", "coco"])
def test_a_part_of_a_video_with_keypoints_of_a_file(short_clip: Path, tmp_path: Path, format: str) -> None:
    """The frames of the part are those of the file at the same times, whatever tool wrote it."""
    file = tmp_path / "keypoints"
    api.detect_to_file(short_clip, file, InferSettings(), Run(Models(InferSettings())), format=format)
    whole, part = (
        pipeline.detect_people(short_clip, settings, Run(Models(settings)))
        for settings in (
            InferSettings(keypoints=str(file)),
            InferSettings(keypoints=str(file), start_s=0.1, end_s=0.3),
        )
    )
    inside = [i for i, time_s in enumerate(whole.frame_times_s) if 0.1 - 1e-6 <= time_s < 0.3 - 1e-6]
    assert 0 < len(inside) < len(whole)
    np.testing.assert_array_equal(part.frame_times_s, whole.frame_times_s[inside])
    for own, index in zip(part, inside, strict=True):
        np.testing.assert_array_equal(own.keypoints, whole[index].keypoints)
    with pytest.raises(VideoError, match="has no frame at or after 99 s"):
        infer(short_clip, settings=InferSettings(keypoints=str(file), start_s=99.0))


def walking_track(fps: float, seconds: float = 2.5) -> tuple[Track2D, DoubleArray, DoubleArray]:
    """A walk seen by a level camera 5 m away: its track, the times, and the true root-relative joints (T, 17, 3)."""
    frames = round(seconds * fps)
    world = walk(frames, fps, 0.8).astype(np.float64)
    world[:, :, 1] -= world[:, :1, 1]
    turned = world @ np.array([[np.cos(0.7), np.sin(0.7), 0], [-np.sin(0.7), np.cos(0.7), 0], [0, 0, 1]])
    camera = (turned - [0, -5, 1.2]) @ np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]]).T
    points = project(camera[:, [ARCHIVE_JOINTS.index(name) for name in COCO_NAMES]], CAMERA).astype(np.float32)
    box = np.concatenate([points.min(axis=1), points.max(axis=1)], axis=1)
    scores = np.full((frames, 17), 0.8, np.float32)
    track = Track2D(1, points, scores, box, np.ones((frames, 17), np.bool_))
    return track, np.arange(frames) / fps, camera[:, :17] - camera[:, :1]


def test_the_frame_rate_does_not_matter() -> None:
    lifter = load_lifter(device="cpu")
    errors = {}
    for fps in (24.0, 30.0, 50.0, 60.0, 120.0):
        track, times, truth = walking_track(fps)
        motion = lift_person(track, times, lifter, CAMERA, (1280, 720), InferSettings())
        errors[fps] = float(1e3 * metrics.n_mpjpe(motion.joints, truth).mean())
    assert max(errors.values()) - min(errors.values()) < 5, errors
    assert max(errors.values()) < 90


def test_height_sets_the_scale_and_the_distance() -> None:
    lifter = load_lifter(device="cpu")
    track, times, _ = walking_track(30.0)
    usual = lift_person(track, times, lifter, CAMERA, (1280, 720), InferSettings())
    child = lift_person(track, times, lifter, CAMERA, (1280, 720), dataclasses.replace(InferSettings(), height_m=0.85))
    np.testing.assert_allclose(child.joints, usual.joints / 2, atol=5e-3)
    np.testing.assert_allclose(child.root, usual.root / 2, rtol=0.03, atol=0.02)
    assert np.median(usual.root[:, 2]) == pytest.approx(5.0, abs=0.8)


def test_what_was_lifted_is_brought_onto_the_keypoints_and_keeps_its_bones(monkeypatch: pytest.MonkeyPatch) -> None:
    lifter = load_lifter(device="cpu")
    track, times, _ = walking_track(30.0)
    bones = np.array(H36M17.bones)

    def measured() -> tuple[float, float]:
        """How far joints are from their keypoints, pixels, and how much bones change their length, metres."""
        motion = lift_person(track, times, lifter, CAMERA, (1280, 720), InferSettings())
        seen = project((motion.joints + motion.root[:, None])[:, H36M_LIMBS], CAMERA)
        lengths = np.linalg.norm(motion.joints[:, bones[:, 1]] - motion.joints[:, bones[:, 0]], axis=-1)
        off = np.linalg.norm(seen - track.keypoints[:, COCO_LIMBS], axis=-1)
        return float(off.mean()), float(lengths.std(axis=0).mean())

    off, stretch = measured()
    with monkeypatch.context() as context:
        context.setattr(pipeline, "refine_reprojection", lambda joints, root, *_: (joints, root))
        assert off < 0.9 * measured()[0]
    monkeypatch.setattr(pipeline, "refine_bone_lengths", lambda joints: joints)
    assert stretch < 0.9 * measured()[1]


def test_a_trajectory_model_says_where_they_are() -> None:
    lifter, walker = load_lifter(device="cpu"), load_lifter("trajectory-27", "cpu", "trajectory")
    track, times, _ = walking_track(60.0)
    fitted = lift_person(track, times, lifter, CAMERA, (1280, 720), InferSettings())
    told = lift_person(track, times, lifter, CAMERA, (1280, 720), InferSettings(), walker)
    np.testing.assert_array_equal(told.joints, fitted.joints)
    assert np.isfinite(told.root).all()
    assert np.abs(told.root - fitted.root).max() > 1e-3
    assert np.median(told.root[:, 2]) == pytest.approx(5.0, rel=0.15)
    with pytest.raises(WeightsError, match="trajectory-27 is a trajectory model, not a pose lifter"):
        load_lifter("trajectory-27", "cpu")
    with pytest.raises(WeightsError, match="pose-27 is a pose model, not a trajectory lifter"):
        load_lifter("pose-27", "cpu", "trajectory")
