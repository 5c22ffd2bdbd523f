"""Input rules: convert pixel keypoints to network inputs, and outputs to camera axes.

The rule is part of a lifter's checkpoint. Training and inference call the same functions, so the two cannot differ.

- ``screen``: the paper's screen coordinates (section 5): x to [-1, 1] across the image, y by the same scale.
- ``box``: relative to the person's own centre and size in each frame, in pixels.
- ``ray``: the same, in a virtual camera turned (not rolled) to face the person. The answer then does not depend on
  where in the frame the person stands, nor on the focal length beyond perspective; it is rotated back afterwards.

Centre and size are the mean of the keypoints and their root-mean-square distance from it, both weighted by
confidence: unlike a bounding box they move smoothly when one keypoint jumps.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from array_api_compat import array_namespace

from vp3d_cli.camera import project, rotate, rotate_back, rotation_to_axis, to_rays
from vp3d_cli.errors import ConfigError
from vp3d_cli.skeletons import get_skeleton

Normalization = Literal["screen", "box", "ray"]
Edges = Literal["reflect", "repeat"]
Array = Any  # numpy.ndarray or torch.Tensor; results are of the kind of the arguments

# Keypoints below this confidence are not seen at all: shown to the network as zeros.
MIN_CONFIDENCE = 0.05
_MIN_SPREAD = 1e-6
# A wild keypoint may lie so far outside the image that the virtual camera would see it beside or behind itself, or
# many times the person's size away. It is brought back to 84 degrees from the axis, and to this many sizes.
_LEAST_DEPTH = 0.1
_FARTHEST = 8.0


@dataclass(frozen=True)
class InputRule:
    """Input rule of a lifter.

    Attributes:
        normalization: ``screen``, ``box`` or ``ray``.
        confidence: whether the confidence of each keypoint is its third number.
        rate_hz: frame rate that the lifter was trained at.
        skeleton_2d, skeleton_3d: names in :mod:`vp3d_cli.skeletons`.
        edges: what a lifter sees beyond the ends of a video: the motion running back (``reflect``), or the first and
            last frame standing still (``repeat``, as in the paper). A causal lifter always has the second.
        reversible: whether the lifter was trained on motion that ran backwards as often as forwards.
    """

    normalization: Normalization = "ray"
    confidence: bool = True
    rate_hz: float = 30.0
    skeleton_2d: str = "coco17"
    skeleton_3d: str = "h36m17"
    edges: Edges = "reflect"
    reversible: bool = False

    def __post_init__(self) -> None:
        if self.normalization not in get_args(Normalization):
            raise ConfigError(
                f"normalization must be one of {', '.join(get_args(Normalization))}, got {self.normalization!r}"
            )
        if self.edges not in get_args(Edges):
            raise ConfigError(f"edges must be one of {', '.join(get_args(Edges))}, got {self.edges!r}")
        if not self.rate_hz > 0:
            raise ConfigError(f"rate_hz must be positive, got {self.rate_hz}")
        get_skeleton(self.skeleton_2d)
        get_skeleton(self.skeleton_3d)

    def beyond_ends(self, frames_after: int) -> Edges:
        """Padding at the ends of a video, for a lifter that sees ``frames_after`` later frames."""
        return self.edges if frames_after else "repeat"

    @property
    def features(self) -> int:
        """Numbers per joint."""
        return 3 if self.confidence else 2

    def as_dict(self) -> dict[str, Any]:
        """Return the input rule for a checkpoint's metadata."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> InputRule:
        """Inverse of :meth:`as_dict`."""
        return cls(**values)


@dataclass(frozen=True)
class LifterInput:
    """Keypoints as a lifter sees them, and the way back.

    "Answer axes" are those in which the network answers: the virtual camera's for ``ray``, else the camera's.

    Attributes:
        features: (..., J, 2 or 3).
        rotations: (..., 3, 3) camera axes to answer axes, per frame; None where the two are the same.
        centre: (..., 2) the person's centre on the plane z = 1 of the answer axes.
        spread: (...,) the person's size on that plane.
    """

    features: Array
    rotations: Array | None
    centre: Array
    spread: Array

    def of_frame(self, index: int) -> LifterInput:
        """The same of one frame: (N, T, ...) to (N, ...)."""
        rotations = None if self.rotations is None else self.rotations[:, index]
        return LifterInput(self.features[:, index], rotations, self.centre[:, index], self.spread[:, index])

    def to_camera(self, joints: Array) -> Array:
        """Turn (..., J, 3) from answer axes to camera axes."""
        return joints if self.rotations is None else rotate_back(self.rotations, joints)

    def from_camera(self, joints: Array) -> Array:
        """Turn (..., J, 3) from camera axes to answer axes: inverse of :meth:`to_camera`."""
        return joints if self.rotations is None else rotate(self.rotations, joints)


def decode_root(answer: Array, centre: Array, spread: Array) -> Array:
    """The root in metres from what a trajectory network predicts.

    The network predicts in units that do not depend on how far away the person is: the offset of the root from the
    person's centre in units of their size on the image plane, and depth times that size (metres).

    Args:
        answer: (..., 3) offset x, offset y, depth times spread.
        centre, spread: (..., 2) and (...,) of :class:`LifterInput`.

    Returns:
        (..., 3) metres, answer axes.
    """
    xp = array_namespace(answer)
    depth = answer[..., 2] / spread
    plane = centre + answer[..., :2] * spread[..., None]
    return xp.concat([plane * depth[..., None], depth[..., None]], axis=-1)


def normalize(keypoints: Array, scores: Array, intrinsics: Array, size_wh: Array, rule: InputRule) -> LifterInput:
    """Apply an input rule to arrays of numpy or torch.

    Args:
        keypoints: (..., J, 2) pixels; NaN where missing.
        scores: (..., J) confidence 0..1; 0 where missing.
        intrinsics: (..., 4) fx fy cx cy, broadcast against the frames.
        size_wh: (..., 2) image size in pixels, broadcast against the frames.
        rule: which rule.

    Returns:
        Features and the way back. A missing keypoint is all zeros.
    """
    xp = array_namespace(keypoints)
    seen = (scores >= MIN_CONFIDENCE) & xp.all(xp.isfinite(keypoints), axis=-1)
    scores = _where(seen, scores)
    keypoints = _where(seen[..., None], keypoints)

    rays = to_rays(keypoints, intrinsics[..., None, :])
    centre, spread = _centre_and_spread(rays, scores)
    rotations = None
    if rule.normalization == "screen":
        width, height = size_wh[..., 0, None], size_wh[..., 1, None]
        points = xp.stack([keypoints[..., 0] / width * 2 - 1, keypoints[..., 1] / width * 2 - height / width], axis=-1)
    elif rule.normalization == "box":
        points = (rays - centre[..., None, :]) / spread[..., None, None]
    else:
        rotations = rotation_to_axis(centre)
        turned = rotate(rotations, xp.concat([rays, xp.ones_like(rays[..., :1])], axis=-1))
        facing = project(_in_front(turned), (1.0, 1.0, 0.0, 0.0))
        centre, spread = _centre_and_spread(facing, scores)
        points = (facing - centre[..., None, :]) / spread[..., None, None]
    points = _where(seen[..., None], -_at_least(-_at_least(points, -_FARTHEST), -_FARTHEST))
    features = xp.concat([points, scores[..., None]], axis=-1) if rule.confidence else points
    return LifterInput(features, rotations, centre, spread)


def flip(features: Array, flip_order: tuple[int, ...]) -> Array:
    """Mirror features (..., J, 2 or more) left-right.

    The first coordinate changes sign; left and right joints are swapped.
    """
    flipped = features[..., list(flip_order), :]
    return array_namespace(features).concat([-flipped[..., :1], flipped[..., 1:]], axis=-1)


def _where(condition: Array, values: Array) -> Array:
    """The values where a condition holds, else 0."""
    xp = array_namespace(values)
    return xp.where(condition, values, xp.zeros_like(values))


def _at_least(values: Array, least: float) -> Array:
    xp = array_namespace(values)
    return xp.where(values < least, xp.full_like(values, least), values)


def _in_front(points: Array) -> Array:
    """(..., 3) points with a depth of at least :data:`_LEAST_DEPTH`."""
    xp = array_namespace(points)
    return xp.concat([points[..., :2], _at_least(points[..., 2:], _LEAST_DEPTH)], axis=-1)


def _centre_and_spread(points: Array, weights: Array) -> tuple[Array, Array]:
    xp = array_namespace(points)
    total = _at_least(xp.sum(weights, axis=-1), _MIN_SPREAD)
    centre = xp.sum(points * weights[..., None], axis=-2) / total[..., None]
    offset = points - centre[..., None, :]
    distance2 = xp.sum(offset * offset, axis=-1)
    spread = _at_least(xp.sqrt(xp.sum(distance2 * weights, axis=-1) / total), _MIN_SPREAD)
    return centre, spread
