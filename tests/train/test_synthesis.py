"""The data engine: what it says of a window must be true of that window."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from motions import write_archive

from vp3d_cli.camera import project
from vp3d_cli.errors import ConfigError
from vp3d_cli.lift.input_rule import Edges
from vp3d_cli.skeletons import COCO17, COCO_LIMBS, H36M17, H36M_LIMBS
from vp3d_cli.train.mocap.motion import MotionClip, read_motion
from vp3d_cli.train.synthesis.engine import DataEngine, EngineSettings, Windows
from vp3d_cli.train.synthesis.noise import DetectorNoise, NoiseSettings

# Motions as they are, seen without error.
PLAIN = EngineSettings(recombined=0.0, spliced=0.0, turned=0.0, speed_sigma=0.0, cut=0.0)
SILENT = NoiseSettings(scale=0.0, occluded=0.0, missing_legs=0.0, missing_head=0.0, swapped=0.0)


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[MotionClip]:
    return read_motion(write_archive(tmp_path_factory.mktemp("motion") / "motion.npz"))


def draw(
    clips: list[MotionClip], n: int = 96, frames: int = 27, seed: int = 3, edges: Edges = "reflect", **changes: Any
) -> Windows:
    return DataEngine(clips, frames, 30.0, dataclasses.replace(PLAIN, **changes), seed=seed, edges=edges).draw(n)


def test_keypoints_are_where_the_camera_sees_the_joints(clips: list[MotionClip]) -> None:
    windows = draw(clips)
    joints = windows.joints + windows.root[:, :, None]
    assert (joints[..., 2] > 0).all()
    seen = project(joints[:, 13, H36M_LIMBS], windows.intrinsics[:, None])
    clean = windows.clean_keypoints[:, 13, COCO_LIMBS]
    size = (clean.amax(1) - clean.amin(1)).norm(dim=-1)
    off = (seen - clean).norm(dim=-1).mean(1) / size
    # The focal length that is told is a tenth wrong, and the lens bends a little; the joints of others are far off.
    assert off.median() < 0.15
    assert ((seen.roll(1, 0) - clean).norm(dim=-1).mean(1) / size).median() > 0.5


def test_bones_keep_their_length_and_are_the_same_on_both_sides(clips: list[MotionClip]) -> None:
    joints = draw(clips, turned=1.0, recombined=1.0).joints
    for bone in ("hip knee", "knee ankle", "shoulder elbow", "elbow wrist"):
        upper, lower = bone.split()
        sides = [
            (joints[:, :, H36M17.index(f"{side}_{upper}")] - joints[:, :, H36M17.index(f"{side}_{lower}")]).norm(dim=-1)
            for side in ("left", "right")
        ]
        for length in sides:
            assert (length.amax(1) - length.amin(1)).max() < 1e-3
        torch.testing.assert_close(*sides, rtol=0, atol=1e-3)


def test_bodies_and_cameras_differ(clips: list[MotionClip]) -> None:
    windows = draw(clips)
    thigh = (windows.joints[:, 0, H36M17.index("left_hip")] - windows.joints[:, 0, H36M17.index("left_knee")]).norm(
        dim=-1
    )
    assert thigh.std() > 0.01
    assert windows.root[:, 13, 2].std() > 0.5
    assert windows.intrinsics[:, 0].std() > 50


def test_a_motion_that_ends_within_the_window_runs_back(clips: list[MotionClip]) -> None:
    joints = draw(clips, frames=181).joints  # the clips have 60 frames
    change = (joints[:, 1:] - joints[:, :-1]).norm(dim=-1).amax(-1)
    assert (change > 0).all()
    # One way and back is 118 frames: the pose, which has no place, is then the same.
    body = (joints[:, 118:] - joints[:, :-118]).norm(dim=-1)
    assert body.max() < 2e-3


def test_beyond_a_cut_motion_runs_back_labels_and_all(clips: list[MotionClip]) -> None:
    windows = draw(clips, n=256, cut=1.0, noise=SILENT)
    frames = torch.cat([windows.clean_keypoints.flatten(2), windows.joints.flatten(2), windows.root], dim=2)
    middle = frames.shape[1] // 2
    begun_late = 0
    for window in frames:
        turns = [t for t in range(1, len(window) - 1) if torch.equal(window[t - 1], window[t + 1])]
        if not turns or turns[0] > middle or len(turns) > 1:
            continue
        begun_late += 1
        edge = turns[0]
        assert torch.equal(window[:edge].flip(0), window[edge + 1 : 2 * edge + 1])
        assert (window[edge + 1 :] != window[edge:-1]).any(dim=1).all()  # and it moves
    assert begun_late > 30


def test_beyond_a_cut_motion_stands_still_for_a_lifter_that_sees_it_so(clips: list[MotionClip]) -> None:
    windows = draw(clips, n=256, cut=1.0, noise=SILENT, edges="repeat")
    still = (windows.clean_keypoints[:, 1:] == windows.clean_keypoints[:, :-1]).all(dim=-1).all(dim=-1)
    assert 0.1 < still.float().mean() < 0.9
    assert ((windows.joints[:, 1:] == windows.joints[:, :-1]).all(dim=-1).all(dim=-1) == still).all()
    assert ((windows.root[:, 1:] == windows.root[:, :-1]).all(dim=-1) == still).all()


def test_without_noise_the_detector_sees_what_is_there(clips: list[MotionClip]) -> None:
    windows = draw(clips, noise=SILENT)
    inside = ((windows.clean_keypoints > 0) & (windows.clean_keypoints < windows.size_wh[:, None, None])).all(dim=-1)
    assert inside.float().mean() > 0.8
    torch.testing.assert_close(windows.keypoints[inside], windows.clean_keypoints[inside])


def test_noise_is_larger_where_confidence_is_lower(clips: list[MotionClip]) -> None:
    windows = draw(clips, n=512, noise=NoiseSettings(missing_legs=0.0, missing_head=0.0, swapped=0.0, clean=0.0))
    size = windows.clean_keypoints.std(dim=2).norm(dim=-1)
    moving = windows.keypoints - windows.clean_keypoints
    off = (moving - moving.mean(1, keepdim=True)).norm(dim=-1) / size[..., None]
    assert off[windows.scores < 0.4].median() > 1.5 * off[windows.scores > 0.8].median()


def test_a_turning_bias_is_constant_in_pelvis_axes_and_mirrored() -> None:
    noise = DetectorNoise(NoiseSettings(turning=2.0), 9, 30.0, torch.device("cpu"))
    bias = noise.turning_bias(4000, torch.Generator().manual_seed(1))
    assert bias is not None
    assert bias.shape == (4000, 1, 17, 3)
    torch.testing.assert_close(bias[:, :, list(COCO17.flip_order)] * torch.tensor([-1.0, 1.0, 1.0]), bias)
    hip, nose = COCO17.index("left_hip"), COCO17.index("nose")
    assert bias[:, 0, hip].std(0).tolist() == pytest.approx([0.05] * 3, rel=0.1)
    assert (bias[:, 0, nose, 0] == 0).all()
    assert bias[:, 0, nose, 1:].std(0).tolist() == pytest.approx([0.02] * 2, rel=0.1)
    assert bias.mean(0).abs().max() < 0.004


def test_a_turning_bias_moves_the_keypoints_of_the_detector_only(clips: list[MotionClip]) -> None:
    turning = dataclasses.replace(SILENT, scale=1.0, scale_sigma=0.0, clean=0.0, turning=4.0)
    windows, without = draw(clips, noise=turning), draw(clips, noise=dataclasses.replace(turning, turning=0.0))
    size = windows.clean_keypoints.std(dim=2).norm(dim=-1)
    hips = [COCO17.index("left_hip"), COCO17.index("right_hip")]

    def constant_error(drawn: Windows) -> float:
        off = (drawn.keypoints - drawn.clean_keypoints)[:, :, hips].mean(1).norm(dim=-1) / size.mean(1)[:, None]
        return float(off.median())

    assert constant_error(windows) > 2 * constant_error(without)
    clean = dataclasses.replace(turning, clean=1.0)
    still = draw(clips, noise=clean)
    inside = ((still.clean_keypoints > 0) & (still.clean_keypoints < still.size_wh[:, None, None])).all(dim=-1)
    torch.testing.assert_close(still.keypoints[inside], still.clean_keypoints[inside])
    with pytest.raises(ConfigError, match="turning must not be negative"):
        NoiseSettings(turning=-1.0)


def test_the_seed_decides(clips: list[MotionClip]) -> None:
    first, again, other = draw(clips, seed=1), draw(clips, seed=1), draw(clips, seed=2)
    torch.testing.assert_close(first.keypoints, again.keypoints, rtol=0, atol=0)
    assert (first.keypoints != other.keypoints).any()


def test_sources_are_drawn_by_weight(clips: list[MotionClip]) -> None:
    two = [dataclasses.replace(clip, source="rare" if i else "common") for i, clip in enumerate(clips[:2])]
    drawn = draw(two, n=512, source_weights={"common": 3.0, "rare": 1.0}).clips
    assert (drawn == 0).float().mean() == pytest.approx(0.75, abs=0.07)
    with pytest.raises(ConfigError, match="no clips: nobody"):
        draw(two, source_weights={"nobody": 1.0})
    with pytest.raises(ConfigError, match="no motion"):
        draw([])
