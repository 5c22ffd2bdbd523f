"""Confidence of lifted joints: how well the keypoints that they come from were seen."""

from __future__ import annotations

import numpy as np

from vp3d_cli.skeletons import COCO17, H36M17
from vp3d_cli.types import FloatArray, Track2D

GUESSED = 0.2  # a joint below this confidence is a guess of the lifter from the rest of the body
# Keypoints from which joints without a keypoint of their name are lifted.
_SOURCES = {
    "hip": ("left_hip", "right_hip"),
    "spine": ("left_hip", "right_hip", "left_shoulder", "right_shoulder"),
    "thorax": ("left_shoulder", "right_shoulder"),
    "neck": ("left_shoulder", "right_shoulder", "nose"),
    "head": ("nose", "left_eye", "right_eye", "left_ear", "right_ear"),
}
_BODY_PARTS = {
    "legs": [COCO17.index(f"{side}_{joint}") for joint in ("knee", "ankle") for side in ("left", "right")],
    "arms": [COCO17.index(f"{side}_{joint}") for joint in ("elbow", "wrist") for side in ("left", "right")],
}
_HARDLY_SEEN = 0.25  # share of frames


def joint_confidence(track: Track2D) -> FloatArray:
    """Confidence of each Human3.6M joint, (t, 17) in 0..1.

    It is that of the keypoint of the same name; joints of trunk and head have the mean of the keypoints around them.
    Interpolated keypoints have a confidence that falls with the time to the nearest seen one, and ones that were never
    seen keep the low confidence of the detector. 0 where the person has no keypoints.
    """
    scores = np.nan_to_num(track.in_skeleton(COCO17).scores)
    columns = [scores[:, [COCO17.index(k) for k in _SOURCES.get(name, (name,))]].mean(axis=1) for name in H36M17.joints]
    confidence: FloatArray = np.clip(np.stack(columns, axis=1), 0.0, 1.0).astype(np.float32)
    return confidence


def guessed_parts(track: Track2D) -> list[str]:
    """One sentence for each body part of a person that was never or hardly seen.

    Args:
        track: filled and with ``observed`` True only where a keypoint was seen.
    """
    body = track.in_skeleton(COCO17)
    there = np.any(np.isfinite(body.keypoints), axis=(1, 2))
    sentences = []
    for part, joints in _BODY_PARTS.items():
        share = float(body.observed[there][:, joints].mean()) if there.any() else 1.0
        if share == 0.0:
            sentences.append(f"{part} of person {track.person_id} were never seen: guessed")
        elif share < _HARDLY_SEEN:
            sentences.append(f"{part} of person {track.person_id} were seen {share:.0%} of the time: mostly guessed")
    return sentences
