"""Unlabelled views from 2D keypoint files, such as ``vp3d infer --keypoints-only`` writes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vp3d_cli.camera import DEFAULT_FOV_DEG, Intrinsics
from vp3d_cli.errors import ConfigError, InputError, Vp3dError
from vp3d_cli.io.json_text import parse_json
from vp3d_cli.io.keypoints import KeypointFile, read_keypoints
from vp3d_cli.io.npz_rows import BROKEN_ARCHIVE, open_arrays
from vp3d_cli.lift.input_rule import InputRule
from vp3d_cli.preprocess import MAX_GAP_S, fill_gaps, resample, smooth, uniform_times
from vp3d_cli.skeletons import COCO17
from vp3d_cli.train.sequences.view import Camera, View

_SUFFIXES = (".npz", ".json")
# Shorter tracks are left out: they hold little motion, and false detections last for moments.
_MIN_DURATION_S = 1.0


def read_unlabelled(paths: Sequence[str], rule: InputRule) -> list[View]:
    """Read keypoint files and preprocess every track in them as inference does.

    The camera is the one stored in the file (``vp3d infer --intrinsics`` or ``--fov``), else one with a field of view
    of 60 degrees.

    Args:
        paths: keypoint files, and folders of them (all ``.npz`` and ``.json`` files).
        rule: input rule of the lifter; tracks are resampled to its frame rate.

    Returns:
        One view for each gap-free part of a track that lasts a second or more.

    Raises:
        InputError: a file is missing or unusable, or no track is long enough.
        ConfigError: the lifter does not take COCO keypoints.
    """
    if rule.skeleton_2d != COCO17.name:
        raise ConfigError(
            f"keypoint files have COCO keypoints, but the labelled half has {rule.skeleton_2d}; choose other "
            "keypoints of the data set (--set dataset.keypoints=NAME)"
        )
    views = [view for file in _files(paths) for view in _views(file, rule)]
    if not views:
        raise InputError(f"{', '.join(paths)}: nobody is in view for {_MIN_DURATION_S:g} s or more")
    return views


def _files(paths: Sequence[str]) -> list[Path]:
    files: list[Path] = []
    for path in map(Path, paths):
        if path.is_dir():
            inside = sorted(file for file in path.rglob("*") if file.suffix.lower() in _SUFFIXES and file.is_file())
            if not inside:
                raise InputError(f"{path}: no keypoint files ({', '.join(_SUFFIXES)}) in this folder")
            files += inside
        elif path.is_file():
            files.append(path)
        else:
            raise InputError(f"no keypoint file at {path}; make one with: vp3d infer VIDEO --keypoints-only")
    return files


def _views(file: Path, rule: InputRule) -> list[View]:
    keypoints = read_keypoints(file)
    tracks = keypoints.tracks()
    if tracks is None or keypoints.size_wh is None:
        missing = "person identities" if tracks is None else "the size of the image"
        raise InputError(f"{file}: lacks {missing}; make it with: vp3d infer VIDEO --keypoints-only")
    times = _times(file, keypoints)
    camera = Camera(_intrinsics(file, keypoints.size_wh).as_tuple(), keypoints.size_wh)
    views: list[View] = []
    for track in (found.in_skeleton(COCO17) for found in tracks):
        in_view = times[track.frames]
        preprocessed = smooth(fill_gaps(track, in_view, max_gap_s=MAX_GAP_S), in_view)
        for start, stop in preprocessed.stretches:
            own = in_view[start:stop]
            if own[-1] - own[0] < _MIN_DURATION_S:
                continue
            even = uniform_times(own, rule.rate_hz)
            points = resample(preprocessed.keypoints[start:stop], own, even).astype(np.float32)
            scores = np.clip(resample(preprocessed.scores[start:stop], own, even), 0.0, 1.0).astype(np.float32)
            scores[~np.isfinite(points).all(axis=-1)] = 0.0
            views.append(View(points, camera, np.nan_to_num(scores)))
    return views


def _times(file: Path, keypoints: KeypointFile) -> np.ndarray[Any, np.dtype[np.float64]]:
    if keypoints.frame_times_s is not None:
        return keypoints.frame_times_s
    if not keypoints.fps:
        raise InputError(f"{file}: has neither times nor a frame rate; make it with: vp3d infer VIDEO --keypoints-only")
    return np.arange(len(keypoints)) / keypoints.fps


def _intrinsics(file: Path, size_wh: tuple[int, int]) -> Intrinsics:
    """Camera intrinsics stored in a file of vp3d; the default field of view for other files."""
    if file.suffix.lower() != ".npz":
        return Intrinsics.from_fov(DEFAULT_FOV_DEG, size_wh)
    try:
        with open_arrays(file) as archive:
            if "intrinsics" in archive.files:
                fx, fy, cx, cy = (float(value) for value in archive["intrinsics"])
                return Intrinsics(fx, fy, cx, cy)
            origin = parse_json(str(archive["provenance"])) if "provenance" in archive.files else {}
        # Detection files of vp3d-detections/1 have the settings one level deeper than older keypoint files.
        settings = origin.get("settings") or origin.get("source", {}).get("settings", {})
        if settings.get("intrinsics"):
            return Intrinsics(*map(float, settings["intrinsics"]))
        return Intrinsics.from_fov(float(settings.get("fov_deg") or DEFAULT_FOV_DEG), size_wh)
    except (*BROKEN_ARCHIVE, AttributeError, Vp3dError) as error:
        raise InputError(f"{file}: its camera cannot be read ({error}); make it again") from error
