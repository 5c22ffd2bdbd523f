"""Synthetic Human3.6M: motion capture with the subjects and cameras of the data set.

Archives, subjects, actions, cameras, frame rate and joints are those of the real data set, so that everything that uses
it can be tried without it. Action names are arbitrary; the motions are those of the motion capture.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vp3d_cli.errors import ConfigError
from vp3d_cli.io.atomic import check_target, make_folder
from vp3d_cli.lift.skeleton_mapping import from_coco
from vp3d_cli.paper.datasets.archives import SYNTHETIC_NOTE, write_positions_2d, write_positions_3d
from vp3d_cli.paper.datasets.cameras import DatasetCamera, cameras_of
from vp3d_cli.paper.datasets.capture_area import keep_in_capture_area
from vp3d_cli.paper.datasets.prepare import Joints, Keypoints, Prepared
from vp3d_cli.paper.datasets.specs import CORRUPT, DATASETS, EXACT
from vp3d_cli.skeletons import COCO17, H36M17
from vp3d_cli.train.mocap.motion import MotionClip
from vp3d_cli.train.synthesis import bodies
from vp3d_cli.train.synthesis.noise import DetectorNoise, NoiseSettings
from vp3d_cli.types import FloatArray

SPEC = DATASETS["human36m"]
_TAKES = ("", " 1")
# Body size of each subject relative to the average; test subjects are within the range of training subjects.
_STATURES = {"S1": 0.96, "S5": 0.93, "S6": 1.04, "S7": 1.07, "S8": 1.02, "S9": 1.05, "S11": 0.98}
_MIN_FRAMES = 50  # one second
# A root joint higher above the lowest point of the part is on a ladder or in the air: another part is drawn.
_MAX_ROOT_HEIGHT_M = 1.4
_MAX_DRAWS = 12
# Simulated detectors: one fine-tuned on the data set (half of the noise that the bundled lifters are trained with, and
# few occlusions) with Human3.6M's joints, and one trained on COCO only.
DETECTIONS = {
    "cpn_ft_h36m_dbb": ("h36m17", NoiseSettings(scale=0.5, occluded=0.1, missing_legs=0, missing_head=0, swapped=0.01)),
    "detectron_pt_coco": ("coco17", NoiseSettings(missing_legs=0, missing_head=0)),
}
_NOISE_FRAMES = 100  # frames in a block of correlated detector errors
# The 15 other joints of the 32 repeat one of the 17: toes the ankle, fingers the wrist, and so on.
_REPEATED = {
    4: 3, 5: 3, 9: 6, 10: 6, 11: 0, 16: 8, 20: 13, 21: 13, 22: 13, 23: 13, 24: 8, 28: 16, 29: 16, 30: 16, 31: 16,
}  # fmt: skip


@dataclass(frozen=True)
class _Performance:
    """Sequence of (T, 22, 3) metres, world axes, floor at 0."""

    subject: str
    name: str
    joints: FloatArray


def synthesize(
    clips: Sequence[MotionClip],
    out: Path,
    *,
    minutes: float = 20.0,
    seed: int = 0,
    detections: bool = True,
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Prepared:
    """Generate a synthetic Human3.6M and write its archives.

    Test subjects perform other clips than training subjects or, with a single clip, another part of it. All motions are
    kept inside the area that all four cameras see.

    Args:
        clips: motions to perform.
        out: folder for ``data_3d_h36m.npz``, ``data_2d_h36m_gt.npz`` and simulated detections; created if its parent
            exists.
        minutes: duration of all sequences, each seen by four cameras; the real data set has about 176.
        seed: seed of all random numbers.
        detections: also simulate the keypoints of two detectors (:data:`DETECTIONS`).
        overwrite: replace existing archives.
        progress: called with (sequences done, sequences in all).

    Raises:
        ConfigError: there are no clips, or too few minutes.
        OutputError: ``out`` cannot be written.
    """
    names = [(s, f"{a}{t}") for s in SPEC.subjects for a in SPEC.actions for t in _TAKES]
    names = [name for name in names if name not in CORRUPT[SPEC.name]]
    frames = round(minutes * 60 * SPEC.fps / len(names))
    if not clips:
        raise ConfigError("no motion to perform; give --motion")
    if frames < _MIN_FRAMES:
        least = _MIN_FRAMES * len(names) / SPEC.fps / 60
        raise ConfigError(f"{minutes:g} minutes are less than a second a sequence; give {least:.1f} or more")
    make_folder(out)
    layouts = {EXACT: SPEC.skeleton, **({name: DETECTIONS[name][0] for name in DETECTIONS} if detections else {})}
    for file in (SPEC.file_3d, *map(SPEC.file_2d, layouts)):
        check_target(out / file, overwrite)
    joints, keypoints = _generate(clips, names, frames, seed, layouts, progress)
    result = Prepared(joints, synthetic=True, notes=[SYNTHETIC_NOTE])
    for kind, layout in layouts.items():
        target = out / SPEC.file_2d(kind)
        write_positions_2d(target, keypoints[kind], layout, overwrite=overwrite)
        result.files.append(target)
    write_positions_3d(out / SPEC.file_3d, result.joints, overwrite, synthetic=True)
    result.files.insert(0, out / SPEC.file_3d)
    return result


def _generate(
    clips: Sequence[MotionClip],
    names: Sequence[tuple[str, str]],
    frames: int,
    seed: int,
    layouts: Mapping[str, str],
    progress: Callable[[int, int], None] | None,
) -> tuple[Joints, dict[str, Keypoints]]:
    """Generate the joints, and the keypoints of each kind, of all (subject, sequence) names."""
    generator = torch.Generator().manual_seed(seed)
    detector_generator = torch.Generator().manual_seed(seed + 1)  # separate, so that joints do not depend on it
    people = _create_subjects(clips, generator)
    detectors = {
        kind: DetectorNoise(DETECTIONS[kind][1], _NOISE_FRAMES, SPEC.fps, torch.device("cpu"))
        for kind in layouts
        if kind != EXACT
    }
    joints: Joints = {}
    keypoints: dict[str, Keypoints] = {kind: {} for kind in layouts}
    for done, (subject, name) in enumerate(names):
        performance = people[subject].perform(subject, name, frames, generator)
        joints.setdefault(subject, {})[name] = _all_32(performance.joints)
        projections = _project(performance, cameras_of("human36m", subject))
        keypoints[EXACT].setdefault(subject, {})[name] = [view[:, : H36M17.num_joints] for view, _ in projections]
        for kind, noise in detectors.items():
            detected = _detect(projections, noise, layouts[kind], detector_generator)
            keypoints[kind].setdefault(subject, {})[name] = detected
        if progress is not None:
            progress(done + 1, len(names))
    return joints, keypoints


class _Person:
    """Subject with a body and a set of clip parts.

    Args:
        clips: clips with the first frame and the one past the last that may be used.
        lengths: (21,) bone lengths, metres.
    """

    def __init__(self, clips: Sequence[tuple[MotionClip, int, int]], lengths: Tensor) -> None:
        self._clips, self._lengths = clips, lengths
        self._weights = torch.tensor([(stop - start) / clip.fps for clip, start, stop in clips])

    def perform(self, subject: str, name: str, frames: int, generator: torch.Generator) -> _Performance:
        """Draw a part of a clip and place it in the capture area."""
        best: tuple[float, FloatArray] | None = None
        for _ in range(_MAX_DRAWS):
            joints = self._draw(frames, generator)
            height = float(joints[:, 0, 2].max())
            if best is None or height < best[0]:
                best = height, joints
            if height < _MAX_ROOT_HEIGHT_M:
                break
        assert best is not None
        return _Performance(subject, name, keep_in_capture_area(best[1], SPEC.fps))

    def _draw(self, frames: int, generator: torch.Generator) -> FloatArray:
        clip, first, last = self._clips[int(torch.multinomial(self._weights, 1, generator=generator))]
        step = clip.fps / SPEC.fps
        room = max(0.0, last - 1 - first - (frames - 1) * step)
        start = first + room * float(torch.rand(1, generator=generator))
        place = start + step * torch.arange(frames, dtype=torch.float64)
        # A clip that is too short is played forwards and backwards.
        period = max(last - 1 - first, 1)
        offset = (place - first) % (2 * period)
        place = first + torch.where(offset > period, 2 * period - offset, offset)
        return self._retarget(clip, place)

    def _retarget(self, clip: MotionClip, place: Tensor) -> FloatArray:
        """Motion at fractional frames with the subject's bone lengths, on the floor."""
        low = place.floor().long().clamp(0, len(clip.joints) - 2)
        share = (place - low).float()[:, None, None]
        recorded = torch.from_numpy(clip.joints)
        captured = torch.lerp(recorded[low], recorded[low + 1], share)
        axes, directions, lengths = bodies.encode(captured)
        legs = [*bodies.LEFT_LEG, *bodies.RIGHT_LEG]
        size = self._lengths[legs].sum() / lengths[:, legs].sum(1).median()
        body = (axes @ bodies.positions(directions[None], self._lengths[None])[0]).mT
        joints = body + captured[:, :1] * size
        joints[..., 2] -= joints[..., 2].amin()
        return np.asarray(joints.numpy(), np.float32)


def _create_subjects(clips: Sequence[MotionClip], generator: torch.Generator) -> dict[str, _Person]:
    """Assign a body and clips to each subject; every third clip goes to the test subjects."""
    whole = [(clip, 0, len(clip.joints)) for clip in clips]
    tested = whole[2::3]
    trained = [part for i, part in enumerate(whole) if i % 3 != 2]
    if not tested:
        middles = [max(2, 2 * len(clip.joints) // 3) for clip in clips]
        trained = [(clip, 0, middle) for clip, middle in zip(clips, middles, strict=True)]
        tested = [
            (clip, min(m, len(clip.joints) - 2), len(clip.joints)) for clip, m in zip(clips, middles, strict=True)
        ]
    sources = torch.stack([bodies.encode(torch.from_numpy(clip.joints))[2].mean(0) for clip in clips]).mean(0)
    lengths = bodies.random_lengths(sources.repeat(len(SPEC.subjects), 1), generator)
    people = {}
    for subject, own in zip(SPEC.subjects, lengths, strict=True):
        people[subject] = _Person(tested if subject in SPEC.test else trained, own * _STATURES[subject])
    return people


def _all_32(joints: FloatArray) -> FloatArray:
    """Convert (T, 22, 3) to the (T, 32, 3) recorded joints of Human3.6M."""
    recorded = np.empty((len(joints), SPEC.recorded_joints, 3), np.float32)
    recorded[:, list(SPEC.kept_joints)] = joints[:, : H36M17.num_joints]
    for joint, of_17 in _REPEATED.items():
        recorded[:, joint] = joints[:, of_17]
    return recorded


def _project(performance: _Performance, cameras: Sequence[DatasetCamera]) -> list[tuple[FloatArray, DatasetCamera]]:
    """(T, 22, 2) pixels in each camera."""
    return [(camera.project(performance.joints), camera) for camera in cameras]


def _detect(
    projections: Sequence[tuple[FloatArray, DatasetCamera]],
    noise: DetectorNoise,
    layout: str,
    generator: torch.Generator,
) -> list[FloatArray]:
    """Simulate the keypoints (T, 17, 2) of a detector in each camera."""
    views = np.stack([view for view, _ in projections])
    cameras, frames = views.shape[:2]
    blocks = -(-frames // _NOISE_FRAMES)
    exact = torch.from_numpy(views[:, :, list(bodies.MOCAP_TO_COCO)])
    padded = torch.cat([exact, exact[:, -1:].expand(-1, blocks * _NOISE_FRAMES - frames, -1, -1)], dim=1)
    windows = padded.reshape(cameras * blocks, _NOISE_FRAMES, COCO17.num_joints, 2)
    # Scale of the person in the image, from the mean length of the trunk.
    trunk_px = np.median(np.linalg.norm(views[:, :, 8] - views[:, :, 0], axis=-1), axis=1)
    px_per_m = torch.from_numpy(trunk_px / _TRUNK_M).float().repeat_interleave(blocks)
    sizes = torch.tensor([camera.size_wh for _, camera in projections], dtype=torch.float32).repeat_interleave(
        blocks, dim=0
    )
    noisy = noise(windows, px_per_m, sizes, generator)[0].reshape(cameras, -1, COCO17.num_joints, 2)[:, :frames]
    if layout == COCO17.name:
        return [np.ascontiguousarray(view) for view in noisy.numpy()]
    # The conversion from COCO's keypoints to the joints at or between them is linear, so it also converts errors.
    errors = (noisy - exact).numpy()
    joints = H36M17.num_joints
    return [view[:, :joints] + from_coco(error, layout) for view, error in zip(views, errors, strict=True)]


_TRUNK_M = 0.48  # hip to thorax (vp3d_cli.train.synthesis.bodies)
