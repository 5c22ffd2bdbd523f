"""From a predicted pose back to the image: what video without labels can teach (Pavllo et al. 2019, section 4)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import huber_loss

from vp3d_cli.camera import rotate, rotate_back
from vp3d_cli.skeletons import Skeleton
from vp3d_cli.train.batch import Lens, Unlabelled

# A network that has learned nothing yet puts joints beside and behind the camera. Depth counts as at least this, and
# no point lies further than 63 degrees from the axis: the polynomial of a lens means nothing out there.
_LEAST_DEPTH_M = 0.2
_FARTHEST = 2.0
# A joint that is half the image's width away from where it should be counts as that far off, and teaches nothing: a
# root that was put right before the camera by mistake has a gradient of hundreds of others.
_FARTHEST_OFF = 1.0
_ITERATIONS = 6
# The mean bone lengths of two halves of a batch differ by a centimetre or two by chance. The gradient of a mean is the
# same for all of a batch, so one that does not fade would outweigh those of all other losses and be mostly chance.
_ALIKE_M = 0.02


def project_through(points: Tensor, lens: Lens) -> Tensor:
    """Project points of camera space.

    Args:
        points: (N, O, K, 3) metres.
        lens: of each window.

    Returns:
        (N, O, K, 2) pixels. See :meth:`vp3d_cli.paper.datasets.cameras.DatasetCamera.project` for the formula.
    """
    depth = points[..., 2].clamp_min(_LEAST_DEPTH_M)
    x, y = ((points[..., i] / depth).clamp(-_FARTHEST, _FARTHEST) for i in range(2))
    k1, k2, p1, p2, k3 = lens.distortion[:, None, None].unbind(-1)
    fx, fy, cx, cy = lens.intrinsics[:, None, None].unbind(-1)
    r2 = x * x + y * y
    factor = 1 + r2 * (k1 + r2 * (k2 + r2 * k3)) + lens.mixed[:, None, None] * (p1 * y + p2 * x)
    return torch.stack([fx * (x * factor + p2 * r2) + cx, fy * (y * factor + p1 * r2) + cy], dim=-1)


def rays_through(pixels: Tensor, lens: Lens) -> Tensor:
    """Points of the plane z = 1, (N, O, K, 2), that are seen at these pixels: the inverse of :func:`project_through`.

    Distortion is undone by fixed-point iteration, which converges for lenses whose edges bend by less than half.
    """
    k1, k2, p1, p2, k3 = lens.distortion[:, None, None].unbind(-1)
    fx, fy, cx, cy = lens.intrinsics[:, None, None].unbind(-1)
    seen_x, seen_y = (pixels[..., 0] - cx) / fx, (pixels[..., 1] - cy) / fy
    x, y = seen_x, seen_y
    for _ in range(_ITERATIONS):
        r2 = (x * x + y * y).clamp_max(_FARTHEST)
        factor = 1 + r2 * (k1 + r2 * (k2 + r2 * k3)) + lens.mixed[:, None, None] * (p1 * y + p2 * x)
        x, y = (seen_x - p2 * r2) / factor, (seen_y - p1 * r2) / factor
    return torch.stack([x, y], dim=-1)


def fit_root(joints: Tensor, rays: Tensor, weights: Tensor) -> Tensor:
    """Where the root must be for a pose to be seen along given rays, by least squares.

    A joint P moved by the root t is seen on the ray (u, v, 1) if P_x + t_x = u (P_z + t_z), and the same for y: linear
    in t, and solved in closed form, so that gradients pass.

    Args:
        joints: (N, O, K, 3) root-relative, camera axes, metres.
        rays: (N, O, K, 2).
        weights: (N, O, K) of each joint.

    Returns:
        (N, O, 3) metres, camera axes.
    """
    share = weights / weights.sum(dim=-1, keepdim=True).clamp_min(1e-6)
    wanted = rays * joints[..., 2:] - joints[..., :2]
    mean_ray, mean_wanted = ((share[..., None] * values).sum(dim=-2) for values in (rays, wanted))
    apart, off = rays - mean_ray[..., None, :], wanted - mean_wanted[..., None, :]
    spread = (share[..., None] * apart * apart).sum(dim=(-1, -2)).clamp_min(1e-6)
    depth = (-(share[..., None] * apart * off).sum(dim=(-1, -2)) / spread)[..., None]
    return torch.cat([mean_ray * depth + mean_wanted, depth], dim=-1)


def fitted_root(joints: Tensor, seen: Unlabelled, shared: tuple[Sequence[int], Sequence[int]]) -> Tensor:
    """(N, O, 3) where the keypoints put the root of predicted joints (N, O, K, 3), both in answer axes, metres."""
    of_2d, of_3d = shared
    points = joints[:, :, list(of_3d)]
    if seen.rotations is not None:
        points = rotate_back(seen.rotations, points)
    scores = seen.scores[:, :, list(of_2d)]
    pixels = torch.where(scores[..., None] > 0, seen.keypoints[:, :, list(of_2d)], 0.0)
    root = fit_root(points, rays_through(pixels, seen.lens), scores)
    return root if seen.rotations is None else rotate(seen.rotations, root[:, :, None])[:, :, 0]


def shared_joints(skeleton_2d: Skeleton, skeleton_3d: Skeleton) -> tuple[list[int], list[int]]:
    """Indices of the joints that both skeletons have by the same name, in the 2D and in the 3D one."""
    names = [joint for joint in skeleton_2d.joints if joint in skeleton_3d.joints]
    return [skeleton_2d.index(name) for name in names], [skeleton_3d.index(name) for name in names]


def reprojection(joints: Tensor, root: Tensor, seen: Unlabelled, shared: tuple[Sequence[int], Sequence[int]]) -> Tensor:
    """Mean distance between predicted joints in the image and the keypoints that they were predicted from.

    Args:
        joints: (N, O, K, 3) root-relative, answer axes, metres.
        root: (N, O, 3) answer axes, metres.
        seen: what the camera saw.
        shared: see :func:`shared_joints`.

    Returns:
        One number, weighted by confidence, in units of half the image's width (as the paper's screen coordinates).
    """
    of_2d, of_3d = shared
    points = joints[:, :, list(of_3d)] + root[:, :, None]
    if seen.rotations is not None:
        points = rotate_back(seen.rotations, points)
    scores = seen.scores[:, :, list(of_2d)]
    wanted = torch.where(scores[..., None] > 0, seen.keypoints[:, :, list(of_2d)], 0.0)
    distance = torch.linalg.vector_norm(project_through(points, seen.lens) - wanted, dim=-1)
    distance = (distance / (seen.lens.width[:, None, None] / 2)).clamp_max(_FARTHEST_OFF)
    mean: Tensor = (distance * scores).sum() / scores.sum().clamp_min(1e-6)
    return mean


def bone_lengths(joints: Tensor, bones: Sequence[tuple[int, int]]) -> Tensor:
    """(B,) mean length of each bone over all poses (..., K, 3), metres."""
    parents, children = ([bone[end] for bone in bones] for end in range(2))
    lengths: Tensor = torch.linalg.vector_norm(joints[..., children, :] - joints[..., parents, :], dim=-1)
    return lengths.reshape(-1, len(bones)).mean(dim=0)


def bone_length_difference(predicted: Tensor, labelled: Tensor, bones: Sequence[tuple[int, int]]) -> Tensor:
    """How far the mean bone lengths of unlabelled predictions are from those of the labelled batch.

    Means over the batch, not single people: a soft constraint that keeps bodies from shrinking or growing with their
    distance, which the image alone allows.

    Args:
        predicted: (N, O, K, 3) what is predicted for unlabelled windows, metres.
        labelled: (M, O, K, 3) what is predicted for labelled windows.
        bones: pairs (parent, child).

    Returns:
        Mean absolute difference over the bones, metres; below :data:`_ALIKE_M` it grows with the square instead.
    """
    return huber_loss(bone_lengths(predicted, bones), bone_lengths(labelled, bones), delta=_ALIKE_M) / _ALIKE_M
