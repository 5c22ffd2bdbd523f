"""Reprojection and bone-length losses for unlabelled video (Pavllo et al. 2019, section 4).

Dimensions: N windows, O output frames, K joints. Camera space: metres, x right, y down, z forward.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import huber_loss

from vp3d_cli.camera import rotate, rotate_back
from vp3d_cli.skeletons import Skeleton
from vp3d_cli.train.batch import CameraBatch, UnlabelledBatch

# An untrained network puts joints beside and behind the camera. Depth counts as at least this much, and no point lies
# further than 63 degrees (2.0 at depth 1) from the optical axis, where the lens polynomial means nothing.
_MIN_DEPTH_M = 0.2
_MAX_SLOPE = 2.0
# Largest reprojection error, in half image widths; beyond it there is no gradient. A root that was put right before
# the camera by mistake has a gradient of hundreds of others.
_MAX_ERROR = 1.0
_UNDISTORT_ITERATIONS = 6
# Mean bone lengths of two halves of a batch differ by 1 to 2 cm by chance. Below this difference the loss is quadratic:
# the gradient of a mean is the same for a whole batch and would outweigh those of all other losses.
_HUBER_DELTA_M = 0.02

JointPairs = tuple[Sequence[int], Sequence[int]]


def project_points(points: Tensor, cameras: CameraBatch) -> Tensor:
    """Project points of camera space to pixels, with lens distortion.

    Args:
        points: (N, O, K, 3) metres.
        cameras: camera of each window.

    Returns:
        (N, O, K, 2) pixels. :meth:`vp3d_cli.paper.datasets.cameras.DatasetCamera.project` has the formula.
    """
    depth = points[..., 2].clamp_min(_MIN_DEPTH_M)
    x, y = ((points[..., i] / depth).clamp(-_MAX_SLOPE, _MAX_SLOPE) for i in range(2))
    k1, k2, p1, p2, k3 = cameras.distortion[:, None, None].unbind(-1)
    fx, fy, cx, cy = cameras.intrinsics[:, None, None].unbind(-1)
    r2 = x * x + y * y
    factor = 1 + r2 * (k1 + r2 * (k2 + r2 * k3)) + cameras.tangential_factor[:, None, None] * (p1 * y + p2 * x)
    return torch.stack([fx * (x * factor + p2 * r2) + cx, fy * (y * factor + p1 * r2) + cy], dim=-1)


def pixels_to_rays(pixels: Tensor, cameras: CameraBatch) -> Tensor:
    """Undistort pixels to points on the plane z = 1: the inverse of :func:`project_points`.

    Fixed-point iteration; it converges for lenses that shift the edge of the image by less than half.

    Args:
        pixels: (N, O, K, 2).
        cameras: camera of each window.

    Returns:
        (N, O, K, 2).
    """
    k1, k2, p1, p2, k3 = cameras.distortion[:, None, None].unbind(-1)
    fx, fy, cx, cy = cameras.intrinsics[:, None, None].unbind(-1)
    distorted_x, distorted_y = (pixels[..., 0] - cx) / fx, (pixels[..., 1] - cy) / fy
    x, y = distorted_x, distorted_y
    for _ in range(_UNDISTORT_ITERATIONS):
        r2 = (x * x + y * y).clamp_max(_MAX_SLOPE)
        factor = 1 + r2 * (k1 + r2 * (k2 + r2 * k3)) + cameras.tangential_factor[:, None, None] * (p1 * y + p2 * x)
        x, y = (distorted_x - p2 * r2) / factor, (distorted_y - p1 * r2) / factor
    return torch.stack([x, y], dim=-1)


def solve_root(joints: Tensor, rays: Tensor, weights: Tensor) -> Tensor:
    """Solve for the root position that puts a pose on its rays, by weighted least squares.

    A joint P moved by the root t lies on the ray (u, v, 1) if P_x + t_x = u (P_z + t_z), and the same for y. This is
    linear in t and is solved in closed form, so it is differentiable.

    Args:
        joints: (N, O, K, 3) root-relative, camera axes, metres.
        rays: (N, O, K, 2) on the plane z = 1.
        weights: (N, O, K) weight of each joint.

    Returns:
        (N, O, 3) metres, camera axes.
    """
    share = weights / weights.sum(dim=-1, keepdim=True).clamp_min(1e-6)
    offset = rays * joints[..., 2:] - joints[..., :2]
    mean_ray, mean_offset = ((share[..., None] * values).sum(dim=-2) for values in (rays, offset))
    ray_deviation, offset_deviation = rays - mean_ray[..., None, :], offset - mean_offset[..., None, :]
    variance = (share[..., None] * ray_deviation * ray_deviation).sum(dim=(-1, -2)).clamp_min(1e-6)
    covariance = (share[..., None] * ray_deviation * offset_deviation).sum(dim=(-1, -2))
    depth = (-covariance / variance)[..., None]
    return torch.cat([mean_ray * depth + mean_offset, depth], dim=-1)


def root_from_keypoints(joints: Tensor, batch: UnlabelledBatch, shared: JointPairs) -> Tensor:
    """Root position that puts predicted joints on their keypoints.

    Args:
        joints: (N, O, K, 3) predicted joints, root-relative, prediction axes, metres.
        batch: unlabelled windows with the keypoints.
        shared: see :func:`shared_joints`.

    Returns:
        (N, O, 3) prediction axes, metres.
    """
    of_2d, of_3d = shared
    points = joints[:, :, list(of_3d)]
    if batch.rotations is not None:
        points = rotate_back(batch.rotations, points)
    scores = batch.scores[:, :, list(of_2d)]
    pixels = torch.where(scores[..., None] > 0, batch.keypoints[:, :, list(of_2d)], 0.0)
    root = solve_root(points, pixels_to_rays(pixels, batch.cameras), scores)
    return root if batch.rotations is None else rotate(batch.rotations, root[:, :, None])[:, :, 0]


def shared_joints(skeleton_2d: Skeleton, skeleton_3d: Skeleton) -> tuple[list[int], list[int]]:
    """Indices of the joints that both skeletons have by name: in the 2D and in the 3D skeleton."""
    names = [joint for joint in skeleton_2d.joints if joint in skeleton_3d.joints]
    return [skeleton_2d.index(name) for name in names], [skeleton_3d.index(name) for name in names]


def reprojection_error(joints: Tensor, root: Tensor, batch: UnlabelledBatch, shared: JointPairs) -> Tensor:
    """Mean distance between projected joints and the keypoints they were predicted from.

    Args:
        joints: (N, O, K, 3) root-relative, prediction axes, metres.
        root: (N, O, 3) prediction axes, metres.
        batch: unlabelled windows with the keypoints.
        shared: see :func:`shared_joints`.

    Returns:
        Scalar, weighted by confidence, in half image widths (the unit of the paper's screen coordinates).
    """
    of_2d, of_3d = shared
    points = joints[:, :, list(of_3d)] + root[:, :, None]
    if batch.rotations is not None:
        points = rotate_back(batch.rotations, points)
    scores = batch.scores[:, :, list(of_2d)]
    keypoints = torch.where(scores[..., None] > 0, batch.keypoints[:, :, list(of_2d)], 0.0)
    distance = torch.linalg.vector_norm(project_points(points, batch.cameras) - keypoints, dim=-1)
    distance = (distance / (batch.cameras.width[:, None, None] / 2)).clamp_max(_MAX_ERROR)
    mean: Tensor = (distance * scores).sum() / scores.sum().clamp_min(1e-6)
    return mean


def mean_bone_lengths(joints: Tensor, bones: Sequence[tuple[int, int]]) -> Tensor:
    """(B,) mean length of each bone over all poses (..., K, 3), metres."""
    parents, children = ([bone[end] for bone in bones] for end in range(2))
    lengths: Tensor = torch.linalg.vector_norm(joints[..., children, :] - joints[..., parents, :], dim=-1)
    return lengths.reshape(-1, len(bones)).mean(dim=0)


def bone_length_loss(predicted: Tensor, labelled: Tensor, bones: Sequence[tuple[int, int]]) -> Tensor:
    """Huber loss between mean bone lengths of unlabelled and labelled predictions.

    Means over the batch, not of single people: a soft constraint that keeps bodies from shrinking or growing with
    their distance, which the image alone allows.

    Args:
        predicted: (N, O, K, 3) predictions for unlabelled windows, metres.
        labelled: (M, O, K, 3) predictions for labelled windows, metres.
        bones: pairs (parent, child).

    Returns:
        Mean absolute difference over the bones, metres; quadratic below :data:`_HUBER_DELTA_M`.
    """
    difference = huber_loss(
        mean_bone_lengths(predicted, bones), mean_bone_lengths(labelled, bones), delta=_HUBER_DELTA_M
    )
    return difference / _HUBER_DELTA_M
