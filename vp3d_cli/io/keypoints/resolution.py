"""Check of resolution: keypoints may come from a larger or smaller copy of the video."""

from __future__ import annotations

import numpy as np

from vp3d_cli.errors import InputError
from vp3d_cli.io.keypoints.instances import Instances
from vp3d_cli.io.keypoints.parsing import any_along
from vp3d_cli.types import DoubleArray, FloatArray, VideoInfo

_CONFIDENT = 0.3  # below, tools guess, and guess joints outside the image
# Share of the confident keypoints outside the image. Of people who are half out of view, tools place a tenth there.
_MOST_OUTSIDE = 0.3
_SOME_OUTSIDE = 0.1
_EDGE = 0.02  # of the image; nearer to it a keypoint is not outside
_SAME_ASPECT = 0.01
_COMMON_SCALES = (4 / 3, 1.5, 2.0, 2.25, 3.0, 4.0, 6.0, 8.0)  # from 480p to 2160p
_HALF = 0.51


def match_resolution(path: object, instances: Instances, video: VideoInfo | None, notes: list[str]) -> None:
    """Scale positions to the video, where the file states another image size; else check that they fit.

    Args:
        path: the file, for messages.
        instances: its people; positions and boxes are scaled in place of the old ones.
        video: the video, if known.
        notes: warnings are added to it.

    Raises:
        InputError: the file is for images of another shape, in fractions of the image, or of another resolution.
    """
    finite = np.isfinite(instances.points)
    if finite.any() and float(np.abs(instances.points[finite]).max()) <= 1.0:
        raise InputError(
            f"{path}: all positions lie within -1..1, so they are not pixels; write pixels "
            "(OpenPose: --keypoint_scale 0)"
        )
    if video is None:
        return
    if instances.size_wh is None or instances.size_wh == video.size_wh:
        _check_extent(path, instances, video.size_wh, notes)
        return
    made_for, has = (f"{width}x{height}" for width, height in (instances.size_wh, video.size_wh))
    scale = np.asarray(video.size_wh, np.float64) / np.asarray(instances.size_wh, np.float64)
    if abs(scale[0] / scale[1] - 1) > _SAME_ASPECT:
        turned = instances.size_wh == video.size_wh[::-1]
        hint = " (turned: was it made before the video was rotated upright?)" if turned else ""
        raise InputError(
            f"{path}: made for images of {made_for} pixels, but {video.path.name} has {has}{hint}; "
            "detect keypoints in this video"
        )
    instances.points = (instances.points * scale).astype(np.float32)
    instances.boxes_xyxy = (instances.boxes_xyxy * np.tile(scale, 2)).astype(np.float32)
    instances.size_wh = video.size_wh
    notes.append(f"the file was made for images of {made_for} pixels: positions are scaled to {has}")


def _check_extent(path: object, instances: Instances, size_wh: tuple[int, int], notes: list[str]) -> None:
    """Check the positions of a file that states no image size against the image."""
    points = _confident(instances)
    if not len(points):
        return
    size = np.asarray(size_wh, np.float64)
    outside = any_along((points < -_EDGE * size) | (points > (1 + _EDGE) * size), 1)
    share = float(outside.mean())
    reach = np.quantile(points.astype(np.float64), 0.99, axis=0)
    width, height = size_wh
    if share > _SOME_OUTSIDE:
        where = f"{share:.0%} of the keypoints lie outside the image of {width}x{height} pixels"
        where += f" and reach to ({reach[0]:.0f}, {reach[1]:.0f}){_resolution_of(reach, size)}"
        if share > _MOST_OUTSIDE:
            raise InputError(f"{path}: {where}; give keypoints of this very video, at its full size")
        notes.append(where)
    elif (reach < _HALF * size).all() and (reach > 0.6 * _HALF * size).all():
        notes.append(
            f"all keypoints lie in the upper left {reach[0]:.0f}x{reach[1]:.0f} of {width}x{height} pixels: "
            "if they were detected in a smaller copy of the video, give those of this one"
        )


def _confident(instances: Instances) -> FloatArray:
    """(N, 2) the keypoints that the tool was sure of."""
    return instances.points[np.isfinite(instances.points).all(axis=2) & (instances.scores >= _CONFIDENT)]


def _resolution_of(reach: DoubleArray, size: DoubleArray) -> str:
    """The usual resolution, of the same shape, that positions would fit."""
    scale = next((scale for scale in _COMMON_SCALES if (reach <= scale * size).all()), None)
    if scale is None or (reach <= size).all():
        return ""
    width, height = np.round(scale * size).astype(int).tolist()
    return f", as in a video of {width}x{height} or larger"
