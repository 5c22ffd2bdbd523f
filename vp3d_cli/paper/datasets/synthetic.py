"""A made-up Human3.6M: any motion capture, performed by its subjects in front of its cameras.

Same archives, subjects, actions, cameras, frame rate and joints as the real one, so that everything that works on the
data set can be tried without it. The names of actions mean nothing here: what is performed is whatever the motion is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vp3d_cli.errors import ConfigError
from vp3d_cli.io.atomic import check_target, make_folder
from vp3d_cli.lift.skeleton_mapping import from_coco
from vp3d_cli.paper.datasets.archives import write_positions_2d, write_positions_3d
from vp3d_cli.paper.datasets.cameras import DatasetCamera, cameras_of
from vp3d_cli.paper.datasets.prepare import EXACT, SYNTHETIC_NOTE, Prepared
from vp3d_cli.paper.datasets.specs import CORRUPT, DATASETS
from vp3d_cli.paper.datasets.capture_area import steer
from vp3d_cli.skeletons import COCO17, H36M17
from vp3d_cli.train.mocap.motion import MotionClip
from vp3d_cli.train.synthesis import bodies
from vp3d_cli.train.synthesis.noise import DetectorNoise, NoiseSettings
from vp3d_cli.types import FloatArray

SPEC = DATASETS["human36m"]
_TAKES = ("", " 1")
# Stature of each subject against the usual one; test subjects lie within those who are trained on.
_STATURES = {"S1": 0.96, "S5": 0.93, "S6": 1.04, "S7": 1.07, "S8": 1.02, "S9": 1.05, "S11": 0.98}
_LEAST_FRAMES = 50  # a second
# A root joint higher above the lowest point of its stretch is on a ladder or in the air: another stretch is drawn.
_HIGHEST_ROOT_M = 1.4
_DRAWS = 12
# Detections: as a detector that was trained on these very images errs (half of what the lifters that ship are trained
# on, and little hidden), and as one that knows COCO alone does. Where it says so, the first is in Human3.6M's joints.
DETECTIONS = {
    "cpn_ft_h36m_dbb": ("h36m17", NoiseSettings(scale=0.5, occluded=0.1, missing_legs=0, missing_head=0, swapped=0.01)),
    "detectron_pt_coco": ("coco17", NoiseSettings(missing_legs=0, missing_head=0)),
}
_NOISE_FRAMES = 100  # the detector's slow errors are drawn for so many frames at once
# The joints of the 32 that are none of the 17 repeat one of them: toes the ankle, fingers the wrist, and so on.
_REPEATED = {
    4: 3, 5: 3, 9: 6, 10: 6, 11: 0, 16: 8, 20: 13, 21: 13, 22: 13, 23: 13, 24: 8, 28: 16, 29: 16, 30: 16, 31: 16,
}  # fmt: skip


@dataclass(frozen=True)
class _Performance:
    """One sequence: (T, 22, 3) metres, world axes, floor at 0."""

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
    """Make up a Human3.6M and write its archives.

    The subjects that are tested on perform other clips than those trained on or, of a single clip, another part.
    Everyone walks about inside the space that all four cameras see.

    Args:
        clips: motions to perform.
        out: folder for ``data_3d_h36m.npz``, ``data_2d_h36m_gt.npz`` and those of detections; made if its parent
            is there.
        minutes: of motion in all, seen by four cameras each; the real data set has about 176.
        seed: of everything that is random.
        detections: also simulate the keypoints of two detectors (:data:`DETECTIONS`).
        overwrite: replace archives that are there.
        progress: called with (sequences done, sequences in all).

    Raises:
        ConfigError: no clips, or too few minutes.
        OutputError: ``out`` cannot be written.
    """
    names = [(s, f"{a}{t}") for s in SPEC.subjects for a in SPEC.actions for t in _TAKES]
    names = [name for name in names if name not in CORRUPT[SPEC.name]]
    frames = round(minutes * 60 * SPEC.fps / len(names))
    if not clips:
        raise ConfigError("no motion to perform; give --motion")
    if frames < _LEAST_FRAMES:
        least = _LEAST_FRAMES * len(names) / SPEC.fps / 60
        raise ConfigError(f"{minutes:g} minutes are less than a second a sequence; give {least:.1f} or more")
    make_folder(out)
    layouts = {EXACT: SPEC.skeleton, **({name: DETECTIONS[name][0] for name in DETECTIONS} if detections else {})}
    for file in (SPEC.file_3d, *map(SPEC.file_2d, layouts)):
        check_target(out / file, overwrite)

    generator = torch.Generator().manual_seed(seed)
    detector_generator = torch.Generator().manual_seed(seed + 1)  # apart, so that the joints are the same without
    people = _cast(clips, generator)
    noises = {
        name: DetectorNoise(DETECTIONS[name][1], _NOISE_FRAMES, SPEC.fps, torch.device("cpu"))
        for name in layouts
        if name != EXACT
    }
    result = Prepared({}, made_up=True)
    archives: dict[str, dict[str, dict[str, list[FloatArray]]]] = {layout: {} for layout in layouts}
    for done, (subject, name) in enumerate(names):
        performance = people[subject].perform(subject, name, frames, generator)
        result.joints.setdefault(subject, {})[name] = _all_32(performance.joints)
        seen = _film(performance, cameras_of("human36m", subject))
        archives[EXACT].setdefault(subject, {})[name] = [view[:, : H36M17.num_joints] for view, _ in seen]
        for detector, noise in noises.items():
            archives[detector].setdefault(subject, {})[name] = _detect(
                seen, noise, layouts[detector], detector_generator
            )
        if progress is not None:
            progress(done + 1, len(names))
    for keypoints, layout in layouts.items():
        target = out / SPEC.file_2d(keypoints)
        write_positions_2d(target, archives[keypoints], layout, overwrite=overwrite)
        result.files.append(target)
    write_positions_3d(out / SPEC.file_3d, result.joints, overwrite, made_up=True)
    result.files.insert(0, out / SPEC.file_3d)
    result.notes.append(SYNTHETIC_NOTE)
    return result


class _Person:
    """A subject: their body, and the stretches of motion that are theirs to perform.

    Args:
        clips: with the first frame and the one past the last that they may take.
        lengths: (21,) of their bones, metres.
    """

    def __init__(self, clips: Sequence[tuple[MotionClip, int, int]], lengths: Tensor) -> None:
        self._clips, self._lengths = clips, lengths
        self._weights = torch.tensor([(stop - start) / clip.fps for clip, start, stop in clips])

    def perform(self, subject: str, name: str, frames: int, generator: torch.Generator) -> _Performance:
        """Draw a stretch of motion and perform it on the floor between the cameras."""
        best: tuple[float, FloatArray] | None = None
        for _ in range(_DRAWS):
            joints = self._draw(frames, generator)
            height = float(joints[:, 0, 2].max())
            if best is None or height < best[0]:
                best = height, joints
            if height < _HIGHEST_ROOT_M:
                break
        assert best is not None
        return _Performance(subject, name, steer(best[1], SPEC.fps))

    def _draw(self, frames: int, generator: torch.Generator) -> FloatArray:
        clip, first, last = self._clips[int(torch.multinomial(self._weights, 1, generator=generator))]
        step = clip.fps / SPEC.fps
        room = max(0.0, last - 1 - first - (frames - 1) * step)
        start = first + room * float(torch.rand(1, generator=generator))
        place = start + step * torch.arange(frames, dtype=torch.float64)
        # A clip that is too short is performed to and fro.
        period = max(last - 1 - first, 1)
        offset = (place - first) % (2 * period)
        place = first + torch.where(offset > period, 2 * period - offset, offset)
        return self._embody(clip, place)

    def _embody(self, clip: MotionClip, place: Tensor) -> FloatArray:
        """The motion at fractional frames, with this person's bones; lowest point on the floor."""
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


def _cast(clips: Sequence[MotionClip], generator: torch.Generator) -> dict[str, _Person]:
    """Give each subject a body, and clips: every third one to those who are tested on."""
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
    """(T, 22, 3) to (T, 32, 3) as Human3.6M records them."""
    recorded = np.empty((len(joints), SPEC.recorded_joints, 3), np.float32)
    recorded[:, list(SPEC.kept_joints)] = joints[:, : H36M17.num_joints]
    for joint, of_17 in _REPEATED.items():
        recorded[:, joint] = joints[:, of_17]
    return recorded


def _film(performance: _Performance, cameras: Sequence[DatasetCamera]) -> list[tuple[FloatArray, DatasetCamera]]:
    """(T, 22, 2) pixels of each camera."""
    return [(camera.project(performance.joints), camera) for camera in cameras]


def _detect(
    seen: Sequence[tuple[FloatArray, DatasetCamera]], noise: DetectorNoise, layout: str, generator: torch.Generator
) -> list[FloatArray]:
    """Keypoints (T, 17, 2) of each camera as a detector would see them."""
    views = np.stack([view for view, _ in seen])
    cameras, frames = views.shape[:2]
    blocks = -(-frames // _NOISE_FRAMES)
    exact = torch.from_numpy(views[:, :, list(bodies.MOCAP_TO_COCO)])
    padded = torch.cat([exact, exact[:, -1:].expand(-1, blocks * _NOISE_FRAMES - frames, -1, -1)], dim=1)
    windows = padded.reshape(cameras * blocks, _NOISE_FRAMES, COCO17.num_joints, 2)
    # The size of the person in the image: a trunk is as long in the image as it is in metres, on average.
    trunk_px = np.median(np.linalg.norm(views[:, :, 8] - views[:, :, 0], axis=-1), axis=1)
    px_per_m = torch.from_numpy(trunk_px / _TRUNK_M).float().repeat_interleave(blocks)
    sizes = torch.tensor([camera.size_wh for _, camera in seen], dtype=torch.float32).repeat_interleave(blocks, dim=0)
    dirty = noise(windows, px_per_m, sizes, generator)[0].reshape(cameras, -1, COCO17.num_joints, 2)[:, :frames]
    if layout == COCO17.name:
        return [np.ascontiguousarray(view) for view in dirty.numpy()]
    # Errors of COCO's keypoints to those of joints that lie at or between them: the conversion is linear.
    errors = (dirty - exact).numpy()
    joints = H36M17.num_joints
    return [view[:, :joints] + from_coco(error, layout) for view, error in zip(views, errors, strict=True)]


_TRUNK_M = 0.48  # hip to thorax (vp3d_cli.train.synthesis.bodies)
