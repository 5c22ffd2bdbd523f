"""Views (keypoint sequences seen by one camera), and the windows gathered from them.

The input rule is applied once to every frame, not to every window. A window of 243 frames is gathered as 243 rows when
it is drawn; windows are never stored, and the joints that several views share are stored once.

Dimensions: F frames of all views, V views, N windows, T frames of a window, O output frames, J and K joints of the 2D
and the 3D skeleton.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vp3d_cli.lift.input_rule import InputRule, normalize
from vp3d_cli.train.batch import Batch, CameraBatch, UnlabelledBatch
from vp3d_cli.types import DoubleArray, FloatArray

_NORMALIZE_CHUNK = 1 << 16  # frames normalized together, which bounds memory


@dataclass(frozen=True)
class Camera:
    """Camera of a view; camera axes x right, y down, z forward.

    Attributes:
        intrinsics: fx, fy, cx, cy in pixels.
        size_wh: size of the image in pixels.
        distortion: k1, k2, p1, p2, k3.
        tangential_factor: factor of the mixed tangential terms, see :class:`vp3d_cli.train.batch.CameraBatch`.
        rotation, translation: (3, 3) and (3,) world to camera, metres; None if the pose of the camera is not known.
    """

    intrinsics: tuple[float, float, float, float]
    size_wh: tuple[int, int]
    distortion: tuple[float, float, float, float, float] = (0.0, 0.0, 0.0, 0.0, 0.0)
    tangential_factor: float = 2.0
    rotation: DoubleArray | None = None
    translation: DoubleArray | None = None


@dataclass(frozen=True)
class View:
    """Keypoint sequence of T frames seen by one camera, with or without 3D labels.

    Attributes:
        keypoints: (T, J, 2) pixels; NaN where missing.
        camera: the camera.
        scores: (T, J) confidence; None for 1 everywhere.
        joints: (T, K, 3) metres, world axes; None without labels. Views of one sequence share the same array object.
    """

    keypoints: FloatArray
    camera: Camera
    scores: FloatArray | None = None
    joints: FloatArray | None = None


class ViewStore:
    """All views of a run in flat tensors, from which windows are gathered by index.

    Args:
        views: one or more views; all with labels, or none.
        rule: input rule.
        device: device on which windows are made.
    """

    def __init__(self, views: Sequence[View], rule: InputRule, device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)
        counts = torch.tensor([len(view.keypoints) for view in views])
        ends = counts.cumsum(0)
        self._ends = ends.to(self.device)
        self._first, self._last = (ends - counts).to(self.device), (ends - 1).to(self.device)
        self._store_cameras([view.camera for view in views])
        self._keypoints = _concatenated([view.keypoints for view in views]).to(self.device)
        self._scores: Tensor | None = None
        if any(view.scores is not None for view in views):
            ones = np.ones(views[0].keypoints.shape[1], np.float32)
            scores = [np.broadcast_to(ones, v.keypoints.shape[:2]) if v.scores is None else v.scores for v in views]
            self._scores = _concatenated(scores).to(self.device)
        self._normalize(counts, rule)
        if views[0].joints is not None:
            self._store_joints([view.joints for view in views if view.joints is not None])

    def __len__(self) -> int:
        """Return the number of frames of all views."""
        return len(self._keypoints)

    def _store_cameras(self, cameras: Sequence[Camera]) -> None:
        def tensor(values: Sequence[object]) -> Tensor:
            return torch.tensor(np.array(values, np.float32), device=self.device)

        self._sizes = tensor([camera.size_wh for camera in cameras])
        self._cameras = CameraBatch(
            tensor([camera.intrinsics for camera in cameras]),
            tensor([camera.distortion for camera in cameras]),
            tensor([camera.tangential_factor for camera in cameras]),
            self._sizes[:, 0],
        )
        identity, zero = np.eye(3), np.zeros(3)
        rotations = [identity if camera.rotation is None else camera.rotation for camera in cameras]
        translations = [zero if camera.translation is None else camera.translation for camera in cameras]
        self._camera_rotations, self._camera_translations = tensor(rotations), tensor(translations)

    def _normalize(self, counts: Tensor, rule: InputRule) -> None:
        """Apply the input rule to every frame."""
        view = torch.repeat_interleave(torch.arange(len(counts)), counts).to(self.device)
        shape = (len(self), self._keypoints.shape[1] * rule.features)
        self._features = torch.empty(shape, device=self.device)
        self._centre, self._spread = torch.empty(len(self), 2), torch.empty(len(self))
        self._centre, self._spread = self._centre.to(self.device), self._spread.to(self.device)
        self._rotations: Tensor | None = None
        if rule.normalization == "ray":
            self._rotations = torch.empty(len(self), 3, 3, device=self.device)
        for start in range(0, len(self), _NORMALIZE_CHUNK):
            part = slice(start, start + _NORMALIZE_CHUNK)
            intrinsics, size_wh = self._cameras.intrinsics[view[part]], self._sizes[view[part]]
            normalized = normalize(self._keypoints[part], self._scores_at(part), intrinsics, size_wh, rule)
            self._features[part] = normalized.features.flatten(1)
            self._centre[part], self._spread[part] = normalized.centre, normalized.spread
            if self._rotations is not None and normalized.rotations is not None:
                self._rotations[part] = normalized.rotations

    def _store_joints(self, joints: Sequence[FloatArray]) -> None:
        """Store each array once, however many views share it."""
        offsets: dict[int, int] = {}
        stored: list[FloatArray] = []
        total = 0
        for array in joints:
            if id(array) not in offsets:
                offsets[id(array)] = total
                stored.append(array)
                total += len(array)
        self._joints = _concatenated(stored).to(self.device)
        self._joint_shift = torch.tensor([offsets[id(array)] for array in joints]).to(self.device) - self._first

    def starts(self, outputs: int, stride: int) -> Tensor | None:
        """First output frames of windows that together predict every frame once.

        Returns:
            (M,) frame indices; None if that is every frame (one output per window).
        """
        if outputs == 1:
            return None
        span, parts = outputs * stride, []
        for first, last in zip(self._first.tolist(), self._last.tolist(), strict=True):
            # The last block of a view is moved back so that it ends with the view.
            blocks = torch.arange(first, last + 1, span).clamp(max=max(first, last + 1 - span))
            starts = (blocks[:, None] + torch.arange(stride)).flatten()
            parts.append(starts[starts <= last])
        return torch.cat(parts).to(self.device)

    def _view_of(self, frames: Tensor) -> Tensor:
        return torch.searchsorted(self._ends, frames, right=True)

    def _output_frames(self, frames: Tensor, view: Tensor, outputs: int, stride: int) -> Tensor:
        """(N, O) indices of the output frames; the last frame of a view is repeated beyond its end."""
        index = frames[:, None] + torch.arange(outputs, device=self.device) * stride
        return torch.minimum(index, self._last[view, None])

    def features(self, frames: Tensor, before: int, after: int) -> Tensor:
        """Gather network input around frames.

        Args:
            frames: (N,) index of the first output frame.
            before, after: frames before and after it.

        Returns:
            (N, before + 1 + after, J, features); beyond the ends of a view its first or last frame is repeated.
        """
        view = self._view_of(frames)
        index = frames[:, None] + torch.arange(-before, after + 1, device=self.device)
        index = torch.minimum(torch.maximum(index, self._first[view, None]), self._last[view, None])
        rows = self._features.index_select(0, index.flatten())
        return rows.view(*index.shape, self._keypoints.shape[1], -1)

    def labelled(self, frames: Tensor, before: int, after: int, outputs: int, stride: int) -> Batch:
        """Gather windows with labels.

        Args:
            frames: (N,) index of the first output frame.
            before, after: frames before and after it.
            outputs, stride: number of output frames, and frames from one to the next.
        """
        view = self._view_of(frames)
        predicted = self._output_frames(frames, view, outputs, stride)
        world = self._joints[predicted + self._joint_shift[view, None]]
        rotations = self._camera_rotations[view, None]
        joints = (world - world[:, :, :1]) @ rotations.mT
        root = (rotations @ world[:, :, 0, :, None])[..., 0] + self._camera_translations[view, None]
        if self._rotations is not None:
            facing = self._rotations[predicted]
            joints, root = joints @ facing.mT, (facing @ root[..., None])[..., 0]
        features = self.features(frames, before, after)
        return Batch(features, joints, root, self._centre[predicted], self._spread[predicted])

    def unlabelled(self, frames: Tensor, before: int, after: int, outputs: int, stride: int) -> UnlabelledBatch:
        """Gather windows without labels; arguments as for :meth:`labelled`."""
        view = self._view_of(frames)
        predicted = self._output_frames(frames, view, outputs, stride)
        return UnlabelledBatch(
            self.features(frames, before, after),
            self._keypoints[predicted],
            self._scores_at(predicted),
            self._centre[predicted],
            self._spread[predicted],
            None if self._rotations is None else self._rotations[predicted],
            self._cameras.select(view),
        )

    def _scores_at(self, frames: Tensor | slice) -> Tensor:
        if self._scores is not None:
            return self._scores[frames]
        return torch.ones(self._keypoints[frames].shape[:-1], device=self.device)


def _concatenated(arrays: Sequence[FloatArray]) -> Tensor:
    return torch.from_numpy(np.concatenate(arrays, dtype=np.float32, casting="same_kind"))
