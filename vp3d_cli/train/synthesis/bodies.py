"""Motion as bone directions, to augment body proportions, upper bodies and limb rotations.

A pose is represented by the axes of the pelvis and the unit direction of each bone in those axes. Positions follow from
directions and lengths by one matrix product. So new proportions, the upper body of one motion on the legs of another,
and smooth random rotations of limbs change a few factors only. Everything is batched and runs on any device.

Dimensions: N windows, T frames, B = 21 bones, J = 22 joints (:data:`MOCAP_JOINTS`).
"""

from __future__ import annotations

import torch
from torch import Tensor

from vp3d_cli.camera import rotation_from_axis_angle
from vp3d_cli.skeletons import COCO17, H36M17

# The joints of Human3.6M, then the five COCO keypoints of the face.
MOCAP_JOINTS: tuple[str, ...] = (*H36M17.joints, "nose", "left_eye", "right_eye", "left_ear", "right_ear")
_NECK = MOCAP_JOINTS.index("neck")
MOCAP_PARENTS: tuple[int, ...] = (*H36M17.parents, _NECK, _NECK, _NECK, _NECK, _NECK)
MOCAP_TO_COCO: tuple[int, ...] = tuple(MOCAP_JOINTS.index(joint) for joint in COCO17.joints)

_BONES: tuple[str, ...] = MOCAP_JOINTS[1:]  # a bone has the name of its child joint
NUM_BONES = len(_BONES)


def _bones(*joints: str) -> list[int]:
    return [_BONES.index(joint) for joint in joints]


_FACE = ("nose", "left_eye", "right_eye", "left_ear", "right_ear")
HEAD = _bones("head", *_FACE)
LEFT_ARM, RIGHT_ARM = _bones("left_elbow", "left_wrist"), _bones("right_elbow", "right_wrist")
LEFT_LEG, RIGHT_LEG = _bones("left_knee", "left_ankle"), _bones("right_knee", "right_ankle")
UPPER = _bones("spine", "thorax", "neck", "left_shoulder", "right_shoulder") + HEAD + LEFT_ARM + RIGHT_ARM
LIMBS = (LEFT_ARM, RIGHT_ARM, LEFT_LEG, RIGHT_LEG)

# Parts that are rotated, in this order: the whole upper body about the pelvis, the head, then each limb at its root;
# and the standard deviation of the rotation in radians. Wide enough for unusual poses, narrow enough that most are
# possible for a human (hip and shoulder move by about 120 degrees, trunk and neck by about 45).
ROTATED_PARTS = (UPPER, HEAD, *LIMBS)
ROTATION_SIGMA = (0.30, 0.25, 0.65, 0.65, 0.50, 0.50)

# Adult averages in metres (Drillis and Contini 1966 for limb segments of a 1.7 m body; widths between joint
# centres). Trunk, neck and head keep the division of the captured skeleton, scaled to the total length.
_ADULT = {
    "hip": 0.125, "knee": 0.44, "ankle": 0.43, "shoulder": 0.175, "elbow": 0.28, "wrist": 0.25,
}  # fmt: skip
_TRUNK, _TRUNK_LENGTH = _bones("spine", "thorax"), 0.48
_SKULL, _SKULL_LENGTH = _bones("neck", "head"), 0.28
_STATURE = _bones("left_knee", "left_ankle", "spine", "thorax", "neck", "head")

# Sum of the bones from ankle to crown of a body of 1.7 m. Every training body is scaled to it, because one camera
# cannot distinguish a child nearby from an adult further away: the lifter predicts a body of 1.7 m.
CANONICAL_STATURE = 1.60
CANONICAL_HEIGHT_M = 1.70


def _chain_matrix() -> Tensor:
    """(B, J) matrix that is 1 where the bone lies between the root and the joint."""
    chain = torch.zeros(NUM_BONES, len(MOCAP_JOINTS))
    for joint in range(1, len(MOCAP_JOINTS)):
        ancestor = joint
        while ancestor > 0:
            chain[ancestor - 1, joint] = 1.0
            ancestor = MOCAP_PARENTS[ancestor]
    return chain


_CHAIN = _chain_matrix()


def pelvis_axes(joints: Tensor) -> Tensor:
    """(..., 3, 3) axes of the pelvis of positions (..., J, 3), columns left, up, forward."""
    left = joints[..., 4, :] - joints[..., 1, :]
    up = joints[..., 7, :] - joints[..., 0, :]
    return orthonormal(left, up)


def orthonormal(left: Tensor, up: Tensor) -> Tensor:
    """(..., 3, 3) rotation with columns ``left``, orthogonal ``up``, and their cross product."""
    x = left / left.norm(dim=-1, keepdim=True).clamp_min(1e-9)
    y = up - (up * x).sum(-1, keepdim=True) * x
    y = y / y.norm(dim=-1, keepdim=True).clamp_min(1e-9)
    return torch.stack([x, y, torch.linalg.cross(x, y)], dim=-1)


def encode(joints: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Convert joint positions to pelvis axes, bone directions and bone lengths.

    Args:
        joints: (F, J, 3) metres.

    Returns:
        axes (F, 3, 3) of the pelvis, directions (F, 3, B) of the bones in those axes, lengths (F, B).
    """
    axes = pelvis_axes(joints)
    bones = joints[:, 1:] - joints[:, list(MOCAP_PARENTS[1:])]
    lengths = bones.norm(dim=-1)
    local = axes.mT @ (bones / lengths.clamp_min(1e-6)[..., None]).mT
    return axes, local, lengths


def unit(directions: Tensor) -> Tensor:
    """Normalize directions (N, T, 3, B); a norm over a middle axis would be far slower."""
    x, y, z = directions.unbind(dim=2)
    return directions * torch.rsqrt((x * x + y * y + z * z).clamp_min(1e-12))[:, :, None]


def positions(directions: Tensor, lengths: Tensor) -> Tensor:
    """Root-relative positions (N, T, 3, J) from directions (N, T, 3, B) and lengths (N, B)."""
    bones = directions * lengths[:, None, None, :]
    return bones @ _CHAIN.to(bones)


def rotate_parts(directions: Tensor, vectors: Tensor, amounts: Tensor) -> Tensor:
    """Rotate the upper body, the head and the limbs.

    Args:
        directions: (N, T, 3, B).
        vectors: (N, T, 6, 3) smooth random curves of unit variance, one axis-angle vector per part.
        amounts: (N, 6) factor of the rotation of each part.

    Returns:
        (N, T, 3, B). A limb is rotated as a whole at its root, so knees and elbows keep their bend.
    """
    sigma = torch.tensor(ROTATION_SIGMA, device=directions.device) * amounts
    rotations = rotation_from_axis_angle(vectors * sigma[:, None, :, None])
    out = directions.clone()
    for part, bones in enumerate(ROTATED_PARTS):
        out[..., bones] = rotations[:, :, part] @ out[..., bones]
    return out


def bend(directions: Tensor, angles: Tensor) -> Tensor:
    """Bend knees and elbows about their hinge axes by (N, T, 4) radians, see :data:`LIMBS`.

    The hinge axis is that of the present bend. The bend stays between 0 and 150 degrees.
    """
    out = directions.clone()
    for limb, (root, tip) in enumerate(LIMBS):
        upper, lower = directions[..., root], directions[..., tip]
        cosine = (lower * upper).sum(-1, keepdim=True)
        across = lower - cosine * upper
        size = (1 - cosine.square()).clamp_min(0.0).sqrt()
        bent = torch.atan2(size, cosine)
        # A straight limb has no hinge axis, so the change fades out towards it.
        sure = (size / 0.2).clamp(max=1.0)
        angle = (bent + sure * angles[..., limb, None]).clamp(0.0, 2.6)
        across = across / size.clamp_min(1e-6)
        out[..., tip] = torch.cos(angle) * upper + torch.sin(angle) * across
    return out


def random_lengths(source: Tensor, generator: torch.Generator) -> Tensor:
    """Bone lengths (N, B) of random bodies, symmetric, of one stature.

    Args:
        source: (N, B) bone lengths of the captured body, which determine the division of trunk and head.
        generator: on the device of ``source``.

    Three in ten are children: shorter limbs and a larger head for the same stature.
    """
    n, device = len(source), source.device

    def spread(sigma: float) -> Tensor:
        return (torch.randn(n, 1, generator=generator, device=device) * sigma).exp()

    child = (torch.rand(n, 1, generator=generator, device=device) < 0.3).float()
    child = child * torch.rand(n, 1, generator=generator, device=device)
    lengths = torch.empty_like(source)
    for part, mean in _ADULT.items():
        limb = part not in ("hip", "shoulder")
        value = mean * spread(0.07 if limb else 0.15) * (1 - 0.12 * child * limb)
        lengths[:, _bones(f"left_{part}", f"right_{part}")] = value
    # A quarter keeps the captured proportions.
    captured = torch.rand(n, 1, generator=generator, device=device) < 0.25
    lengths = torch.where(captured, source, lengths)
    lengths[:, _bones("left_hip", "right_hip")] = lengths[:, _bones("left_hip")].clamp_min(0.08)
    for bones, whole, sigma in ((_TRUNK, _TRUNK_LENGTH, 0.07), (_SKULL, _SKULL_LENGTH, 0.08)):
        share = source[:, bones] / source[:, bones].sum(-1, keepdim=True)
        lengths[:, bones] = share * whole * spread(sigma)
    lengths[:, _SKULL] *= 1 + 0.25 * child
    face = _bones(*_FACE)
    # Average distance from the base of the skull to nose, eyes, ears is 0.09 m.
    lengths[:, face] = source[:, face] * spread(0.15) * 1.1 * (1 + 0.2 * child)
    return lengths * (CANONICAL_STATURE / lengths[:, _STATURE].sum(-1, keepdim=True))
