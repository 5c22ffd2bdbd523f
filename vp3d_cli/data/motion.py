"""Motion capture as joint positions: what the training data engine draws from."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vp3d_cli.errors import InputError
from vp3d_cli.skeletons import H36M17
from vp3d_cli.types import FloatArray, check_shape

# The joints of a motion clip: Human3.6M's, then the five of the face that a COCO detector sees.
MOTION_JOINTS: tuple[str, ...] = (*H36M17.joints, "nose", "left_eye", "right_eye", "left_ear", "right_ear")

_ARCHIVE_KEYS = ("joints", "unit_m", "up", "clips")


@dataclass(frozen=True)
class MotionClip:
    """One recorded motion.

    Attributes:
        name: of the take.
        source: which collection it comes from; sources are sampled and held out as a whole.
        licence: of the recording; a model trained on it inherits the condition.
        fps: frames per second.
        joints: (F, 22, 3) metres, z up, in the order of :data:`MOTION_JOINTS`.
    """

    name: str
    source: str
    licence: str
    fps: float
    joints: FloatArray

    def __post_init__(self) -> None:
        check_shape(f"motion {self.name}: joints", self.joints, ("F", len(MOTION_JOINTS), 3), {})
        if not np.isfinite(self.joints).all():
            frame = int(np.flatnonzero(~np.isfinite(self.joints).all(axis=(1, 2)))[0])
            raise InputError(f"motion {self.name}: values of frame {frame} are not finite; cut or repair the clip")
        if len(self.joints) < 2 or not self.fps > 0:
            raise InputError(f"motion {self.name}: needs at least 2 frames and a positive rate, got {len(self.joints)}")


def read_motion_archive(path: Path) -> list[MotionClip]:
    """Read a motion archive: an npz of one int16 array (F, J, 3) per clip and a JSON string ``meta``.

    ``meta`` holds ``joints`` (names), ``unit_m`` (metres per unit), ``up`` ("z") and ``clips`` (one record each:
    ``name``, ``source``, ``fps``, ``licence``).

    Raises:
        InputError: not such an archive, or joints are missing (the message names them).
    """
    if not path.is_file():
        raise InputError(f"no motion archive at {path}; give the path of an npz file")
    try:
        with np.load(path, allow_pickle=False) as archive:
            meta = json.loads(str(archive["meta"]))
            missing_keys = [key for key in _ARCHIVE_KEYS if key not in meta]
            if missing_keys:
                raise InputError(f"{path}: meta lacks {', '.join(missing_keys)}")
            order = _joint_order(path, meta["joints"])
            return [_clip(archive[record["name"]], record, meta, order) for record in meta["clips"]]
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{path} is not a motion archive ({error}); see docs/training.md for the format") from error


def _joint_order(path: Path, names: Sequence[str]) -> list[int]:
    canonical = [_canonical_name(name) for name in names]
    missing = [joint for joint in MOTION_JOINTS if joint not in canonical]
    if missing:
        raise InputError(f"{path}: skeleton lacks {', '.join(missing)}; it has {', '.join(names)}")
    return [canonical.index(joint) for joint in MOTION_JOINTS]


def _canonical_name(name: str) -> str:
    """``rknee`` and ``right_knee`` are the same joint."""
    plain = {joint.replace("left_", "l").replace("right_", "r"): joint for joint in MOTION_JOINTS}
    return plain.get(name, name)


def _clip(values: Any, record: dict[str, Any], meta: dict[str, Any], order: list[int]) -> MotionClip:
    if meta["up"] != "z":
        raise InputError(f"motion {record['name']}: up axis must be z, got {meta['up']}")
    joints = values[:, order].astype(np.float32) * np.float32(meta["unit_m"])
    return MotionClip(record["name"], record["source"], record["licence"], float(record["fps"]), joints)


def read_motion(path: Path) -> list[MotionClip]:
    """Read motions from a file or folder of any kind that vp3d knows.

    Raises:
        InputError: missing, of an unknown kind, or broken.
    """
    return read_motion_archive(path)
