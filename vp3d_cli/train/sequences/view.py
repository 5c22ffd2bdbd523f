"""Sequences of keypoints, kept flat in memory, and the windows that are gathered from them on demand.

The input rule is applied once to every frame, not to every window: a frame is in as many windows as the network sees
frames. A window of 243 frames is then 243 rows copied; nothing is ever stored per window, and what the cameras of a
sequence have in common (its joints) is stored once. Dimensions: F frames of all views, V views, N windows, T frames
of a window, O outputs, J and K joints of the 2D and 3D skeleton.
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

_AT_ONCE = 1 << 16  # frames normalized together, which bounds the memory that takes


@dataclass(frozen=True)
class Camera:
    """What saw a view; the pixels and axes of :class:`vp3d_cli.paper.datasets.cameras.DatasetCamera`.

    Attributes:
        intrinsics: fx, fy, cx, cy in pixels.
        size_wh: of the image, pixels.
        distortion: k1, k2, p1, p2, k3.
        mixed: how often the mixed tangential terms count, see :class:`vp3d_cli.train.batch.CameraBatch`.
        rotation, translation: (3, 3) and (3,) world to camera; None for a camera whose place is not known.
    """

    intrinsics: tuple[float, float, float, float]
    size_wh: tuple[int, int]
    distortion: tuple[float, float, float, float, float] = (0.0, 0.0, 0.0, 0.0, 0.0)
    mixed: float = 2.0
    rotation: DoubleArray | None = None
    translation: DoubleArray | None = None


@dataclass(frozen=True)
class View:
    """A sequence as one camera saw it, T frames.

    Attributes:
        keypoints: (T, J, 2) pixels; NaN where missing.
        camera: that saw it.
        scores: (T, J) confidence; None where it is 1 throughout.
        joints: (T, K, 3) metres, world axes; None without labels. ViewStore of one sequence hold the very same array.
    """

    keypoints: FloatArray
    camera: Camera
    scores: FloatArray | None = None
    joints: FloatArray | None = None


class ViewStore:
    """All views of a run.

    Args:
        views: one or more; all with labels, or none.
        rule: input rule.
        device: where windows are made.
    """

    def __init__(self, views: Sequence[View], rule: InputRule, device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)
        counts = torch.tensor([len(view.keypoints) for view in views])
        ends = counts.cumsum(0)
        self._ends = ends.to(self.device)
        self._first, self._last = (ends - counts).to(self.device), (ends - 1).to(self.device)
        self._cameras([view.camera for view in views])
        self._keypoints = _joined([view.keypoints for view in views]).to(self.device)
        self._scores: Tensor | None = None
        if any(view.scores is not None for view in views):
            ones = np.ones(views[0].keypoints.shape[1], np.float32)
            scores = [np.broadcast_to(ones, v.keypoints.shape[:2]) if v.scores is None else v.scores for v in views]
            self._scores = _joined(scores).to(self.device)
        self._normalize(counts, rule)
        if views[0].joints is not None:
            self._labels([view.joints for view in views if view.joints is not None])

    def __len__(self) -> int:
        """Frames of all views."""
        return len(self._keypoints)

    def _cameras(self, cameras: Sequence[Camera]) -> None:
        def tensor(values: Sequence[object]) -> Tensor:
            return torch.tensor(np.array(values, np.float32), device=self.device)

        self._sizes = tensor([camera.size_wh for camera in cameras])
        self._lens = CameraBatch(
            tensor([camera.intrinsics for camera in cameras]),
            tensor([camera.distortion for camera in cameras]),
            tensor([camera.mixed for camera in cameras]),
            self._sizes[:, 0],
        )
        eye, nowhere = np.eye(3), np.zeros(3)
        self._turns = tensor([eye if camera.rotation is None else camera.rotation for camera in cameras])
        self._moves = tensor([nowhere if camera.translation is None else camera.translation for camera in cameras])

    def _normalize(self, counts: Tensor, rule: InputRule) -> None:
        """Apply the rule to every frame."""
        view = torch.repeat_interleave(torch.arange(len(counts)), counts).to(self.device)
        shape = (len(self), self._keypoints.shape[1] * rule.features)
        self._features = torch.empty(shape, device=self.device)
        self._centre, self._spread = torch.empty(len(self), 2), torch.empty(len(self))
        self._centre, self._spread = self._centre.to(self.device), self._spread.to(self.device)
        self._rotations: Tensor | None = None
        if rule.normalization == "ray":
            self._rotations = torch.empty(len(self), 3, 3, device=self.device)
        for start in range(0, len(self), _AT_ONCE):
            part = slice(start, start + _AT_ONCE)
            intrinsics, size_wh = self._lens.intrinsics[view[part]], self._sizes[view[part]]
            seen = normalize(self._keypoints[part], self._scores_at(part), intrinsics, size_wh, rule)
            self._features[part] = seen.features.flatten(1)
            self._centre[part], self._spread[part] = seen.centre, seen.spread
            if self._rotations is not None and seen.rotations is not None:
                self._rotations[part] = seen.rotations

    def _labels(self, joints: Sequence[FloatArray]) -> None:
        """Keep each array once, however many views hold it."""
        place: dict[int, int] = {}
        kept: list[FloatArray] = []
        total = 0
        for array in joints:
            if id(array) not in place:
                place[id(array)] = total
                kept.append(array)
                total += len(array)
        self._joints = _joined(kept).to(self.device)
        self._label_shift = torch.tensor([place[id(array)] for array in joints]).to(self.device) - self._first

    def starts(self, outputs: int, stride: int) -> Tensor | None:
        """(M,) first output frames of the windows that answer once for every frame; None if that is every frame."""
        if outputs == 1:
            return None
        span, parts = outputs * stride, []
        for first, last in zip(self._first.tolist(), self._last.tolist(), strict=True):
            # The last block of a view is moved back to end with it.
            blocks = torch.arange(first, last + 1, span).clamp(max=max(first, last + 1 - span))
            starts = (blocks[:, None] + torch.arange(stride)).flatten()
            parts.append(starts[starts <= last])
        return torch.cat(parts).to(self.device)

    def _view_of(self, frames: Tensor) -> Tensor:
        return torch.searchsorted(self._ends, frames, right=True)

    def _answered(self, frames: Tensor, view: Tensor, outputs: int, stride: int) -> Tensor:
        """(N, O) frames that are answered for; the last is repeated where a view ends."""
        index = frames[:, None] + torch.arange(outputs, device=self.device) * stride
        return torch.minimum(index, self._last[view, None])

    def features(self, frames: Tensor, before: int, after: int) -> Tensor:
        """Windows around frames.

        Args:
            frames: (N,) index of the (first) output frame.
            before, after: frames before and after it.

        Returns:
            (N, before + 1 + after, J, features); where a view ends, its first or last frame is repeated.
        """
        view = self._view_of(frames)
        index = frames[:, None] + torch.arange(-before, after + 1, device=self.device)
        index = torch.minimum(torch.maximum(index, self._first[view, None]), self._last[view, None])
        rows = self._features.index_select(0, index.flatten())
        return rows.view(*index.shape, self._keypoints.shape[1], -1)

    def labelled(self, frames: Tensor, before: int, after: int, outputs: int, stride: int) -> Batch:
        """Windows with labels; ``after`` counts from the first output frame.

        Args:
            frames: (N,) index of the first output frame.
            before, after: frames before and after it.
            outputs, stride: how many outputs, and how far apart.
        """
        view = self._view_of(frames)
        answered = self._answered(frames, view, outputs, stride)
        world = self._joints[answered + self._label_shift[view, None]]
        turns = self._turns[view, None]
        joints = (world - world[:, :, :1]) @ turns.mT
        root = (turns @ world[:, :, 0, :, None])[..., 0] + self._moves[view, None]
        if self._rotations is not None:
            facing = self._rotations[answered]
            joints, root = joints @ facing.mT, (facing @ root[..., None])[..., 0]
        return Batch(self.features(frames, before, after), joints, root, self._centre[answered], self._spread[answered])

    def unlabelled(self, frames: Tensor, before: int, after: int, outputs: int, stride: int) -> UnlabelledBatch:
        """Windows without labels; arguments as of :meth:`labelled`."""
        view = self._view_of(frames)
        answered = self._answered(frames, view, outputs, stride)
        return UnlabelledBatch(
            self.features(frames, before, after),
            self._keypoints[answered],
            self._scores_at(answered),
            self._centre[answered],
            self._spread[answered],
            None if self._rotations is None else self._rotations[answered],
            self._lens.select(view),
        )

    def _scores_at(self, frames: Tensor | slice) -> Tensor:
        if self._scores is not None:
            return self._scores[frames]
        return torch.ones(self._keypoints[frames].shape[:-1], device=self.device)


def _joined(arrays: Sequence[FloatArray]) -> Tensor:
    """One after the other, in memory of their own."""
    return torch.from_numpy(np.concatenate(arrays, dtype=np.float32, casting="same_kind"))
