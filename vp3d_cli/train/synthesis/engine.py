"""Generator of labelled windows from motion capture with random bodies and cameras.

Each window has a random body, motion, camera and detector noise. Everything is drawn from one ``torch.Generator`` on
the training device, so a run can be resumed exactly.

Dimensions: N windows, T frames at the lifter's frame rate, B bones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from vp3d_cli.camera import project
from vp3d_cli.errors import ConfigError
from vp3d_cli.lift.input_rule import Edges
from vp3d_cli.skeletons import H36M17
from vp3d_cli.train.mocap.motion import MotionClip
from vp3d_cli.train.synthesis import bodies
from vp3d_cli.train.synthesis.cameras import CameraRanges, draw_cameras, keep_in_front
from vp3d_cli.train.synthesis.curves import SmoothCurves
from vp3d_cli.train.synthesis.noise import DetectorNoise, NoiseSettings

_STATURE_M = 1.7
_CLUSTERS = 192


@dataclass(frozen=True)
class EngineSettings:
    """``[data.engine]``: how windows are generated.

    Attributes:
        source_weights: relative sampling weight of each source; 1 for sources not named.
        rare_poses: exponent of the sampling weight 1 / (frames in the cluster of a pose): 0 samples frames uniformly, 1
            samples every cluster of poses equally often.
        recombined: share of windows with the upper body of one motion on the legs of another.
        spliced: share of windows that blend from one motion into another.
        turned: share of windows with smooth random rotations of trunk, head and limbs.
        speed_sigma: standard deviation of the logarithm of the playback speed.
        cut: share of windows in which the video starts or ends; frames beyond are padded as in inference.
        cameras: random cameras.
        noise: simulated detector noise.
    """

    source_weights: Mapping[str, float] = field(default_factory=dict)
    rare_poses: float = 0.6
    recombined: float = 0.35
    spliced: float = 0.05
    turned: float = 0.45
    speed_sigma: float = 0.25
    cut: float = 0.25
    cameras: CameraRanges = CameraRanges()
    noise: NoiseSettings = NoiseSettings()


@dataclass(frozen=True)
class Windows:
    """Generated windows with labels.

    Attributes:
        keypoints: (N, T, 17, 2) pixels, with detector noise.
        scores: (N, T, 17) confidence.
        clean_keypoints: (N, T, 17, 2) pixels, exact.
        intrinsics: (N, 4) fx fy cx cy that the lifter is given.
        size_wh: (N, 2) pixels.
        joints: (N, T, 17, 3) Human3.6M joints, root-relative, camera axes, metres.
        root: (N, T, 3) root joint in camera space, metres.
        clips: (N,) index of the clip that each window was drawn from.
    """

    keypoints: Tensor
    scores: Tensor
    clean_keypoints: Tensor
    intrinsics: Tensor
    size_wh: Tensor
    joints: Tensor
    root: Tensor
    clips: Tensor


class DataEngine:
    """Generator of :class:`Windows`.

    Args:
        clips: motion clips of two frames or more each.
        frames: T.
        rate_hz: frames per second of a window.
        settings: how windows are generated.
        device: device on which windows are made.
        seed: seed of the random numbers.
        output_frame: index of the output frame of the lifter; motions are sampled by the pose in this frame.
        edges: padding beyond the ends of a video, see :class:`vp3d_cli.lift.input_rule.InputRule`.

    Raises:
        ConfigError: there are no clips, or weights for unknown sources.
    """

    def __init__(
        self,
        clips: Sequence[MotionClip],
        frames: int,
        rate_hz: float,
        settings: EngineSettings | None = None,
        device: torch.device | str = "cpu",
        seed: int = 0,
        output_frame: int | None = None,
        edges: Edges = "reflect",
    ) -> None:
        if not clips:
            raise ConfigError("no motion to draw windows from; give --motion")
        self.settings = settings or EngineSettings()
        self.device = torch.device(device)
        self.generator = torch.Generator(self.device).manual_seed(seed)
        self.frames, self._rate, self._edges = frames, rate_hz, edges
        self._output = frames // 2 if output_frame is None else output_frame
        self._encode(clips)
        self._rotations = SmoothCurves(frames, rate_hz, 0.45, self.device)
        self._fast_rotations = SmoothCurves(frames, rate_hz, 0.18, self.device)
        self._noise = DetectorNoise(self.settings.noise, frames, rate_hz, self.device)

    def _encode(self, clips: Sequence[MotionClip]) -> None:
        """Concatenate all clips as bone directions, and compute the sampling weight of each frame."""
        rows, lengths, source_of_frame = [], [], []
        sources = sorted({clip.source for clip in clips})
        unknown = set(self.settings.source_weights) - set(sources)
        if unknown:
            raise ConfigError(
                f"weights for sources that have no clips: {', '.join(sorted(unknown))}; "
                "change [data.engine] source_weights"
            )
        for clip in clips:
            joints = torch.from_numpy(clip.joints)
            axes, directions, bone_lengths = bodies.encode(joints)
            rows.append(torch.cat([directions, axes[..., :2], joints[:, 0, :, None]], dim=-1))
            lengths.append(bone_lengths.mean(0))
            source_of_frame.append(torch.full((len(joints),), sources.index(clip.source)))
        counts = torch.tensor([len(row) for row in rows])
        self._poses = torch.cat(rows).contiguous().to(self.device)
        self._lengths = torch.stack(lengths).to(self.device)
        self._clip_of_frame = torch.repeat_interleave(torch.arange(len(clips)), counts).to(self.device)
        ends = counts.cumsum(0)
        self._first, self._last = (ends - counts).to(self.device), (ends - 1).to(self.device)
        self._clip_fps = torch.tensor([clip.fps for clip in clips], device=self.device)
        weights = self._frame_weights(torch.cat(source_of_frame), sources)
        self._cumulative = weights.double().cumsum(0).to(self.device)

    def _frame_weights(self, source_of_frame: Tensor, sources: list[str]) -> Tensor:
        """Sampling weight of each frame: by pose cluster within a source, then by source."""
        directions = self._poses[..., : bodies.NUM_BONES].flatten(1).cpu()
        weights = torch.zeros(len(directions))
        for i, source in enumerate(sources):
            frames = torch.nonzero(source_of_frame == i)[:, 0]
            cluster = _cluster(directions[frames], _CLUSTERS)
            rarity = torch.bincount(cluster, minlength=_CLUSTERS).float()[cluster] ** -self.settings.rare_poses
            weights[frames] = rarity / rarity.sum() * self.settings.source_weights.get(source, 1.0)
        return weights

    def draw(self, n: int) -> Windows:
        """Generate n windows."""
        s = self.settings
        directions, axes, root, source_lengths, clips = self._motion(n)
        directions = self._recombine(n, directions)
        directions = self._rotate_parts(n, directions)
        lengths = bodies.random_lengths(source_lengths, self.generator)
        legs = [*bodies.LEFT_LEG, *bodies.RIGHT_LEG]
        root = root * (lengths[:, legs].sum(1) / source_lengths[:, legs].sum(1))[:, None, None, None]

        cameras = draw_cameras(n, _STATURE_M, s.cameras, self.generator)
        axes = cameras.rotations[:, None] @ axes
        body = axes @ bodies.positions(directions, lengths)
        travel = root - root[:, self._output, None]
        root_cam = cameras.rotations[:, None] @ travel + cameras.root[:, None, :, None]
        joints_cam = keep_in_front(body + root_cam)
        root_cam = joints_cam[..., 0]

        points = joints_cam[..., list(bodies.MOCAP_TO_COCO)].mT
        lens = cameras.intrinsics[:, None, None], cameras.distortion[:, None, None]
        clean = project(points, *lens)
        turning = self._noise.turning_bias(n, self.generator)
        turning_px = None if turning is None else project(points + turning @ axes.mT, *lens) - clean
        px_per_m = cameras.intrinsics[:, 0] / root_cam[:, self._output, 2]
        keypoints, scores = self._noise(clean, px_per_m, cameras.size_wh, self.generator, turning_px)
        frames = self._cut(n)
        joints = body[..., : H36M17.num_joints].mT
        keypoints, scores, clean, joints, root_cam = (
            _take_frames(values, frames) for values in (keypoints, scores, clean, joints, root_cam)
        )
        return Windows(keypoints, scores, clean, cameras.assumed_intrinsics, cameras.size_wh, joints, root_cam, clips)

    def _motion(self, n: int) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Draw n parts of motion clips.

        Returns:
            Directions (N, T, 3, B), pelvis axes (N, T, 3, 3), root (N, T, 3, 1), lengths (N, B), clips (N,).
        """
        total = self._cumulative[-1]
        middle = torch.searchsorted(self._cumulative, self._rand(n).double() * total).clamp_max(len(self._poses) - 1)
        clip = self._clip_of_frame[middle]
        speed = (self.settings.speed_sigma * torch.randn(n, generator=self.generator, device=self.device)).exp()
        step = self._clip_fps[clip] / self._rate * speed
        step = torch.where(self._rand(n) < 0.5, step, -step)  # half of all motions are reversed in time
        offsets = torch.arange(self.frames, device=self.device) - self._output
        # Frames are counted from the output frame, which keeps fractions exact in float32. A clip that is shorter than
        # the window is reflected at its ends.
        low, high = (self._first[clip] - middle)[:, None], (self._last[clip] - middle)[:, None]
        length = high - low
        place = low + (length - ((offsets * step[:, None] - low) % (2 * length) - length).abs())
        index = torch.minimum(place.floor().long(), high - 1)
        share = (place - index)[..., None, None]
        index = index + middle[:, None]
        pose = torch.lerp(self._poses[index], self._poses[index + 1], share)
        directions, left, up, root = torch.split(pose, [bodies.NUM_BONES, 1, 1, 1], dim=-1)
        axes = bodies.orthonormal(left[..., 0], up[..., 0])
        return bodies.unit(directions), axes, root, self._lengths[clip], clip

    def _recombine(self, n: int, directions: Tensor) -> Tensor:
        """Replace the upper body in some windows, and blend some into another motion."""
        other = self._motion(n)[0]
        recombined = self._rand(n) < self.settings.recombined
        upper = torch.zeros(bodies.NUM_BONES, dtype=torch.bool, device=self.device)
        upper[bodies.UPPER] = True
        out = torch.where(recombined[:, None, None, None] & upper, other, directions)

        spliced = self._rand(n) < self.settings.spliced
        start, length = self._rand(n, 1), 0.1 + 0.4 * self._rand(n, 1)
        phase = torch.linspace(0, 1, self.frames, device=self.device)
        share = ((phase - start) / length).clamp(0, 1) * spliced[:, None]
        mixed = torch.lerp(out, other, share[..., None, None])
        return bodies.unit(mixed)

    def _rotate_parts(self, n: int, directions: Tensor) -> Tensor:
        turned = (self._rand(n, 1) < self.settings.turned).float()
        slow = self._rotations.draw(n, 22, self.generator)
        fast = self._fast_rotations.draw(n, 22, self.generator)
        constant = torch.randn(n, 1, 22, generator=self.generator, device=self.device)
        curves = 0.75 * constant + 0.55 * slow + 0.35 * fast * self._rand(n, 1, 1)
        amounts = turned * self._rand(n, 6) * 1.5
        directions = bodies.rotate_parts(directions, curves[..., :18].reshape(n, self.frames, 6, 3), amounts)
        return bodies.bend(directions, curves[..., 18:] * 0.5 * turned[..., None] * self._rand(n, 1, 4))

    def _cut(self, n: int) -> Tensor:
        """(N, T) frame indices; in some windows the video starts late or ends early."""
        frames = torch.arange(self.frames, device=self.device).expand(n, -1)
        cut = self._rand(n, 1) < self.settings.cut
        begin = (self._rand(n, 1) * (self._output + 1)).long() * (cut & (self._rand(n, 1) < 0.6))
        end = self._output + (self._rand(n, 1) * (self.frames - self._output)).long()
        end = torch.where(cut & (self._rand(n, 1) < 0.6), end, self.frames - 1)
        if self._edges == "reflect":
            length = (end - begin).clamp_min(1)
            frames = begin + length - ((frames - begin) % (2 * length) - length).abs()
        return torch.minimum(torch.maximum(frames, begin), end)

    def _rand(self, *shape: int) -> Tensor:
        return torch.rand(*shape, generator=self.generator, device=self.device)


def _take_frames(values: Tensor, frames: Tensor) -> Tensor:
    index = frames.reshape(*frames.shape, *[1] * (values.ndim - 2)).expand(-1, -1, *values.shape[2:])
    return values.gather(1, index)


def _cluster(features: Tensor, k: int, rounds: int = 8) -> Tensor:
    """Cluster index of each row of (F, D), by k-means on a sample with a fixed seed."""
    generator = torch.Generator().manual_seed(0)
    sample = features[torch.randperm(len(features), generator=generator)[: 40 * k]]
    centres = sample[:k].clone()
    for _ in range(rounds):
        nearest = torch.cdist(sample, centres).argmin(1)
        sums = torch.zeros_like(centres).index_add_(0, nearest, sample)
        counts = torch.bincount(nearest, minlength=len(centres))[:, None]
        centres = torch.where(counts > 0, sums / counts.clamp_min(1), centres)
    return torch.cat([torch.cdist(chunk, centres).argmin(1) for chunk in torch.split(features, 16384)])
