"""A lifter ready to use: 2D keypoints of one person over time in, 3D joints in camera axes out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vp3d_cli.errors import WeightsError
from vp3d_cli.lift.checkpoint import Task, load_lifter_file
from vp3d_cli.lift.input_rule import MIN_CONFIDENCE, LifterInput, decode_root, normalize
from vp3d_cli.lift.skeleton_mapping import as_trained, complete, shows_all, to_h36m17
from vp3d_cli.lift.temporal import FoldedTemporalModel, TemporalModel
from vp3d_cli.lift.tta import averaged
from vp3d_cli.runtime.devices import torch_device
from vp3d_cli.types import FloatArray
from vp3d_cli.weights import DEFAULT_LIFTER, find_lifter, sha256_of

# Height of the body that lifters answer for (vp3d_cli.train.synthesis.bodies.CANONICAL_HEIGHT_M).
LIFTER_HEIGHT_M = 1.70
# Output frames computed at once: at least so many, and so many receptive fields, of which half of one on each side is
# computed twice. Bounds the memory of long videos, at some 100 MB for 243 frames and 1024 channels.
_CHUNK = 1024
_CHUNK_FIELDS = 16


class Lifter:
    """A trained network with its input rule.

    Args:
        path: lifter file (see :mod:`vp3d_cli.lift.checkpoint`).
        device: ``auto``, ``cpu`` or ``cuda``.
        name: what to call it.
        sha256: of the file.

    Attributes:
        info: what the file says about itself.

    Raises:
        WeightsError: not a lifter file.
        MissingDependencyError: ``cuda`` was asked for and is not there.
    """

    def __init__(self, path: Path, device: str = "auto", *, name: str = "", sha256: str = "") -> None:
        self.name, self.sha256 = name or path.stem, sha256
        self._device = torch_device(device)
        model, self.info = load_lifter_file(path, self._device)
        self.rule = self.info.rule
        self._config: Any = model.config
        self._network: Callable[[Tensor], Tensor] = (
            FoldedTemporalModel(model) if isinstance(model, TemporalModel) else model
        )

    @property
    def licence(self) -> str:
        """Condition of use that comes from the training data."""
        return self.info.licence

    @property
    def rate_hz(self) -> float:
        """Frame rate at which keypoints must come."""
        return self.rule.rate_hz

    def lift(
        self,
        keypoints: FloatArray,
        scores: FloatArray,
        intrinsics: tuple[float, float, float, float],
        size_wh: tuple[int, int],
        *,
        flip_test: bool = True,
    ) -> FloatArray:
        """Lift one person.

        Lifters on other keypoints than COCO's get these as :func:`vp3d_cli.lift.skeleton_mapping.as_trained` makes
        them; those that were never shown a missing keypoint get all of them, filled in.

        Args:
            keypoints: (T, 17, 2) COCO keypoints in pixels at the lifter's frame rate (``rule.rate_hz``); NaN where
                missing.
            scores: (T, 17) confidence 0..1.
            intrinsics: fx, fy, cx, cy in pixels.
            size_wh: of the image.
            flip_test: average over several ways to ask, see :func:`vp3d_cli.lift.tta.averaged`.

        Returns:
            Of a pose lifter (T, 17, 3) metres, root-relative, camera axes, for a body of 1.7 m. Of a trajectory lifter
            (T, 1, 3), the root in camera space for such a body.
        """
        if shows_all(self.rule):
            keypoints = complete(keypoints, scores, MIN_CONFIDENCE)
        shown = as_trained(
            torch.from_numpy(np.ascontiguousarray(keypoints, np.float32)).to(self._device),
            torch.from_numpy(np.ascontiguousarray(scores, np.float32)).to(self._device),
            self.rule,
        )
        result = self.lift_as_trained(*shown, intrinsics, size_wh, flip_test=flip_test)
        return result if self.info.task == "trajectory" else to_h36m17(result, self.rule.skeleton_3d)

    def lift_as_trained(
        self,
        keypoints: Tensor,
        scores: Tensor,
        intrinsics: tuple[float, float, float, float],
        size_wh: tuple[int, int],
        *,
        flip_test: bool = True,
    ) -> FloatArray:
        """Lift keypoints of the very skeleton that it was trained on (``rule.skeleton_2d``), as they are.

        Args:
            keypoints: (T, J, 2) pixels at the lifter's frame rate.
            scores: (T, J) confidence 0..1.
            intrinsics: fx, fy, cx, cy in pixels; a rule of ``screen`` coordinates does without (NaN).
            size_wh: of the image.
            flip_test: see :meth:`lift`.

        Returns:
            (T, K, 3) metres, root-relative, camera axes, the joints of ``rule.skeleton_3d``; of a trajectory lifter
            (T, 1, 3), the root in camera space.
        """
        seen = normalize(
            keypoints.to(self._device),
            scores.to(self._device),
            torch.tensor(intrinsics, dtype=torch.float32, device=self._device),
            torch.tensor(size_wh, dtype=torch.float32, device=self._device),
            self.rule,
        )
        features = seen.features[None]
        answer = averaged(self._run, features, self._config, self.info) if flip_test else self._run(features)
        result: FloatArray = self._to_camera(answer[0], seen).cpu().numpy()
        return result

    def _to_camera(self, answer: Tensor, seen: LifterInput) -> Tensor:
        if self.info.task == "trajectory" and self.info.root == "scaled":
            answer = decode_root(answer[:, 0], seen.centre, seen.spread)[:, None]
        return seen.to_camera(answer)

    @torch.inference_mode()
    def _run(self, features: Tensor) -> Tensor:
        """(B, T, J, F) to (B, T, out_joints, 3); what the ends see beyond themselves is up to the input rule."""
        config, frames = self._config, features.shape[1]
        chunk = max(_CHUNK, _CHUNK_FIELDS * config.receptive_field)
        parts = []
        for start in range(0, frames, chunk):
            stop = min(start + chunk, frames)
            index = torch.arange(start - config.frames_before, stop + config.frames_after, device=features.device)
            parts.append(self._network(features[:, self._inside(index, frames)]))
        return torch.cat(parts, dim=1)

    def _inside(self, index: Tensor, frames: int) -> Tensor:
        """Which frames stand for those before the first and after the last."""
        if self.rule.beyond_ends(self._config.frames_after) == "repeat":
            return index.clamp(0, frames - 1)
        period = max(2 * (frames - 1), 1)
        index = index % period
        return torch.minimum(index, period - index)


def load_lifter(name: str = DEFAULT_LIFTER, device: str = "auto", task: Task = "pose") -> Lifter:
    """Load a lifter by its name in the manifest of weights, or by the path of a lifter file.

    Raises:
        WeightsError: unknown, missing, damaged, or of another task.
        MissingDependencyError: the device is not there.
    """
    lifter = _load(name, device)
    if lifter.info.task != task:
        raise WeightsError(f"{name} is a {lifter.info.task} model, not a {task} lifter; see: vp3d weights list")
    return lifter


def _load(name: str, device: str) -> Lifter:
    path, called, sha256 = find_lifter(name)
    return Lifter(path, device, name=called, sha256=sha256 or sha256_of(path))
