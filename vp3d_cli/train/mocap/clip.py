"""Motion clip: joint positions over time, independent of the file format."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vp3d_cli.errors import InputError
from vp3d_cli.skeletons import H36M17
from vp3d_cli.types import FloatArray, check_shape

# Joints of a motion clip: those of Human3.6M, then the five COCO keypoints of the face.
MOTION_JOINTS: tuple[str, ...] = (*H36M17.joints, "nose", "left_eye", "right_eye", "left_ear", "right_ear")


@dataclass(frozen=True)
class MotionClip:
    """Motion clip of one person.

    Attributes:
        name: name of the take.
        source: collection that it belongs to; collections are weighted in sampling.
        licence: licence of the recording; a model trained on it inherits its conditions.
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
            raise InputError(
                f"motion {self.name}: needs at least 2 frames and a positive rate, "
                f"got {len(self.joints)} at {self.fps} frames per second"
            )
