"""A lifter ready to use: 2D keypoints of one person over time in, 3D joints in camera axes out."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vp3d_cli.errors import ConfigError, WeightsError
from vp3d_cli.io.atomic import check_target, replacing
from vp3d_cli.lift.checkpoint import Task, check_shapes, load_lifter_file, read_lifter_file
from vp3d_cli.lift.input_rule import MIN_CONFIDENCE, LifterInput, decode_root, normalize
from vp3d_cli.lift.onnx_export import expected_shapes, temporal_to_onnx
from vp3d_cli.lift.receptive_field import TemporalConfig
from vp3d_cli.lift.skeleton_mapping import as_trained, complete, shows_all, to_h36m17
from vp3d_cli.lift.tta import averaged
from vp3d_cli.runtime.devices import torch_device
from vp3d_cli.runtime.load import find_target, load_model
from vp3d_cli.types import FloatArray
from vp3d_cli.weights import DEFAULT_LIFTER, find_lifter, sha256_of

# Output frames computed at once: at least so many, and so many receptive fields, of which half of one on each side is
# computed twice. Bounds the memory of long videos, at about 100 MB for 243 frames and 512 channels.
_CHUNK = 1024
_CHUNK_FIELDS = 16


Network = Callable[[FloatArray], FloatArray]


class Lifter:
    """A trained network with its input rule.

    Temporal networks run on the fastest runtime that is present (:mod:`vp3d_cli.runtime`), in float32; networks of
    other architectures run on torch.

    Args:
        path: lifter file (see :mod:`vp3d_cli.lift.checkpoint`).
        device: one of :data:`vp3d_cli.runtime.devices.DEVICES`.
        name: what to call it.
        sha256: of the file.

    Attributes:
        info: what the file says about itself.
        rule: how keypoints are presented to the network.
        name, sha256: as given.

    Raises:
        WeightsError: not a lifter file.
        MissingDependencyError: no runtime for this device is installed, or the device is not present.
    """

    def __init__(self, path: Path, device: str = "auto", *, name: str = "", sha256: str = "") -> None:
        self.name, self.sha256 = name or path.stem, sha256
        self._state, self.info = read_lifter_file(path)
        self.rule = self.info.rule
        self._device = device
        if self.info.architecture == "temporal":
            config = _temporal_config(self.info.config)
            check_shapes(expected_shapes(config), {key: array.shape for key, array in self._state.items()}, path)
            find_target(device)  # complains now rather than after the detection of a long video
            self._config: Any = config
        else:
            self._network, self._config = _torch_network(path, device)

    @cached_property
    def _network(self) -> Network:
        """The network on its runtime, loaded on first use: a video's first frame need not wait for it."""
        data = temporal_to_onnx(self._state, self._config, self.info.as_metadata())
        self._state = {}
        model = load_model(data, self.name, self._device, precision="f32")
        return lambda features: model.run(np.ascontiguousarray(features))[0]

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
            np.ascontiguousarray(keypoints, np.float32), np.ascontiguousarray(scores, np.float32), self.rule
        )
        result = self.lift_as_trained(*shown, intrinsics, size_wh, flip_test=flip_test)
        return result if self.info.task == "trajectory" else to_h36m17(result, self.rule.skeleton_3d)

    def lift_as_trained(
        self,
        keypoints: FloatArray,
        scores: FloatArray,
        intrinsics: tuple[float, float, float, float],
        size_wh: tuple[int, int],
        *,
        flip_test: bool = True,
    ) -> FloatArray:
        """Lift keypoints of the skeleton that the network was trained on (``rule.skeleton_2d``), as they are.

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
            np.asarray(keypoints, np.float32),
            np.asarray(scores, np.float32),
            np.array(intrinsics, np.float32),
            np.array(size_wh, np.float32),
            self.rule,
        )
        features = seen.features[None]
        answer = averaged(self._run, features, self._config, self.info) if flip_test else self._run(features)
        return np.asarray(self._to_camera(answer[0], seen), np.float32)

    def _to_camera(self, answer: FloatArray, seen: LifterInput) -> FloatArray:
        if self.info.task == "trajectory" and self.info.root == "scaled":
            answer = decode_root(answer[:, 0], seen.centre, seen.spread)[:, None]
        result: FloatArray = seen.to_camera(answer)
        return result

    def _run(self, features: FloatArray) -> FloatArray:
        """(B, T, J, F) to (B, T, out_joints, 3); what lies beyond the ends is up to the input rule."""
        config, frames = self._config, features.shape[1]
        chunk = max(_CHUNK, _CHUNK_FIELDS * config.receptive_field)
        parts = []
        for start in range(0, frames, chunk):
            stop = min(start + chunk, frames)
            index = np.arange(start - config.frames_before, stop + config.frames_after)
            parts.append(self._network(features[:, self._inside(index, frames)]))
        return np.concatenate(parts, axis=1)

    def _inside(self, index: NDArray[np.int64], frames: int) -> NDArray[np.int64]:
        """The frames that stand for those before the first and after the last."""
        if self.rule.beyond_ends(self._config.frames_after) == "repeat":
            return np.clip(index, 0, frames - 1)
        period = max(2 * (frames - 1), 1)
        index = index % period
        return np.minimum(index, period - index)


def _temporal_config(config: Any) -> TemporalConfig:
    try:
        return TemporalConfig(**config)
    except TypeError as error:
        raise ConfigError(f"architecture temporal: {error}") from error


def _torch_network(path: Path, device: str) -> tuple[Network, Any]:
    """A network of an architecture that is not temporal, and its configuration."""
    on = torch_device(device)
    import torch

    model: Any = load_lifter_file(path, on)[0]

    def run(features: FloatArray) -> FloatArray:
        with torch.inference_mode():
            result: FloatArray = model(torch.from_numpy(np.ascontiguousarray(features)).to(on)).cpu().numpy()
        return result

    return run, model.config


def export_onnx(name: str, out: Path, *, overwrite: bool = False) -> None:
    """Write a temporal lifter as an ONNX model with what its file says about itself as metadata.

    Args:
        name: name or file of a lifter.
        out: file to write.
        overwrite: replace it if it exists.

    Raises:
        ConfigError: the lifter is of another architecture.
        OutputError: the file cannot be written.
        WeightsError: unknown, missing or damaged lifter.
    """
    check_target(out, overwrite)
    path = find_lifter(name)[0]
    state, info = read_lifter_file(path)
    if info.architecture != "temporal":
        raise ConfigError(f"{name} is a {info.architecture} network; only temporal ones can be written as ONNX")
    config = _temporal_config(info.config)
    check_shapes(expected_shapes(config), {key: array.shape for key, array in state.items()}, path)
    with replacing(out, overwrite) as file:
        file.write(temporal_to_onnx(state, config, info.as_metadata()))


def load_lifter(name: str = DEFAULT_LIFTER, device: str = "auto", task: Task = "pose") -> Lifter:
    """Load a lifter by its name in the manifest of weights, or by the path of a lifter file.

    Raises:
        WeightsError: unknown, missing, damaged, or of another task.
        MissingDependencyError: no runtime for this device is installed, or the device is not present.
    """
    lifter = _load(name, device)
    if lifter.info.task != task:
        raise WeightsError(f"{name} is a {lifter.info.task} model, not a {task} lifter; see: vp3d weights list")
    return lifter


def _load(name: str, device: str) -> Lifter:
    path, called, sha256 = find_lifter(name)
    return Lifter(path, device, name=called, sha256=sha256 or sha256_of(path))
