"""The facts that ``vp3d info`` prints, as lines of text: labels in plain English, values with units, in groups."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from vp3d_cli.cli.common import clock, format_table

_WIDTH = 20  # of the longest label
_SHA_DIGITS = 12  # enough to tell files apart, and to search for
_MINUTE_S = 60.0
_OPTIONS = {  # names and units of settings and assumptions
    "height_m": ("body height", "m"),
    "fov_deg": ("field of view", "degrees"),
    "start_s": ("from", "s"),
    "end_s": ("to", "s"),
    "smooth": ("smoothing", ""),
    "tta": ("test-time augmentation", ""),
}


def format_facts(facts: Mapping[str, Any]) -> list[str]:
    """Lines for the facts of :func:`vp3d_cli.cli.info.read_facts`: what the file has, its people, its origin."""
    groups = [_lines({key: value for key, value in facts.items() if key not in ("persons", "provenance")})]
    if facts.get("persons"):
        groups.append(_people(facts["persons"]))
    if facts.get("provenance"):
        origin = facts["provenance"]
        groups.append(_lines({key: origin[key] for key in [*filter(origin.__contains__, _LABELS), *origin]}))
    return [line for i, group in enumerate(groups) for line in ([""] if i else []) + group]


def _lines(facts: Mapping[str, Any]) -> list[str]:
    """A line for each fact; several for a list of sentences."""
    lines = []
    for key, value in facts.items():
        label, text = _LABELS.get(key, (_plain(key), _text))
        values = (
            value if isinstance(value, list) and value and all(isinstance(part, str) for part in value) else [value]
        )
        for part in values:
            lines.append(f"{label:{_WIDTH}s}  {text(part)}".rstrip())
            label = ""
    return lines


def _is_sentences(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(part, str) for part in value)


def _people(persons: Sequence[Mapping[str, Any]]) -> list[str]:
    rows: list[Sequence[object]] = [("Person", "In view", "Frames filled in", "Mean confidence")]
    for person in persons:
        seconds, confidence = person["seconds_seen"], person["mean_confidence"]
        rows.append((person["person_id"], _seconds(seconds), person["frames_filled"], f"{confidence:.2f}"))
    return format_table(rows, right=(0, 1, 2, 3)).splitlines()


def _plain(key: object) -> str:
    """A key as a label: ``frame_rate`` is "Frame rate"."""
    words = str(key).replace("_", " ").strip()
    return words[:1].upper() + words[1:]


def _text(value: Any) -> str:
    """Any value on one line."""
    if value is None or value == [] or value == {} or value == "":
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.5g}" if math.isfinite(value) else "-"
    if isinstance(value, Mapping):
        return ", ".join(f"{str(key).replace('_', ' ')} {_text(part)}" for key, part in value.items())
    return ", ".join(map(_text, value)) if isinstance(value, (list, tuple)) else str(value)


def _number(unit: str, digits: int = 2) -> Callable[[Any], str]:
    """Formats a number with its unit."""

    def format_number(value: Any) -> str:
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            return _text(value)
        shown = f"{value:.{digits}f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
        return f"{shown} {unit}"

    return format_number


def _seconds(value: Any) -> str:
    text = _number("s")(value)
    return f"{text} ({clock(value)})" if isinstance(value, float) and _MINUTE_S <= value < math.inf else text


def _size(value: Any) -> str:
    return f"{value[0]}x{value[1]} pixels" if isinstance(value, list) and len(value) == 2 else _text(value)


def _camera(value: Any) -> str:
    if not isinstance(value, list) or len(value) != 4:
        return _text(value)
    fx, fy, cx, cy = (f"{_text(part)}" for part in value)
    return f"focal length {fx} x {fy} pixels, principal point {cx}, {cy}"


def _model(value: Any) -> str:
    """A detector or lifter: name, hash and licence."""
    if not isinstance(value, Mapping) or "name" not in value:
        return _text(value)
    hashes = [part[:_SHA_DIGITS] for part in str(value.get("sha256") or "").split("+") if part]
    parts = [f"sha256 {' + '.join(hashes)}"] if hashes else []
    parts += [f"licence {value['licence']}"] if value.get("licence") else []
    return f"{value['name']} ({', '.join(parts)})" if parts else str(value["name"])


def _keypoints(value: Any) -> str:
    if not isinstance(value, Mapping) or "file" not in value:
        return _text(value)
    return f"{value['file']} ({_text(value.get('format'))}, {_text(value.get('layout'))})"


def _fingerprint(value: Any) -> str:
    if not isinstance(value, Mapping) or "sha256" not in value:
        return _text(value)
    size = value.get("size", value.get("bytes"))
    bytes_text = f"{size / 1e6:.1f} MB, " if isinstance(size, int) else ""
    return f"{bytes_text}sha256 {str(value['sha256'])[:_SHA_DIGITS]}"


def _settings(value: Any) -> str:
    """Those settings that differ from the defaults."""
    if not isinstance(value, Mapping):
        return _text(value)
    from dataclasses import asdict

    from vp3d_cli.pipeline.settings import InferSettings

    usual = asdict(InferSettings())
    changed = {key: value[key] for key in usual if key in value and value[key] not in (None, usual[key])}
    return _options(changed) if changed else "defaults"


def _assumed(value: Any) -> str:
    return _options(value) if isinstance(value, Mapping) else _text(value)


def _options(values: Mapping[str, Any]) -> str:
    """Settings or assumptions with their units."""
    parts = []
    for key, part in values.items():
        name, unit = _OPTIONS.get(str(key), (str(key).replace("_", " "), ""))
        parts.append(f"{name} {_text(part)} {unit}".rstrip())
    return ", ".join(parts) or "-"


def _timing(value: Any) -> str:
    if not isinstance(value, Mapping):
        return _text(value)
    parts = [_seconds(value.get("seconds"))]
    if isinstance(value.get("detector_seconds"), float):
        parts.append(f"of these {_seconds(value['detector_seconds'])} detection")
    if isinstance(value.get("frames_per_second"), float):
        parts.append(_number("frames/s", 1)(value["frames_per_second"]))
    return ", ".join(parts)


_LABELS: Mapping[str, tuple[str, Callable[[Any], str]]] = {
    "video": ("Video", _text),
    "pose_file": ("Pose file", _text),
    "detections_file": ("Detections file", _text),
    "keypoint_file": ("Keypoint file", _text),
    "size_wh": ("Size", _size),
    "video_size_wh": ("Video size", _size),
    "frames_per_second": ("Frame rate", _number("fps")),
    "frames": ("Frames", _text),
    "frames_with_people": ("Frames with people", _text),
    "most_people_in_a_frame": ("People in a frame", lambda value: f"at most {_text(value)}"),
    "seconds": ("Duration", _seconds),
    "codec": ("Codec", _text),
    "rotation_deg": ("Rotation", _number("degrees")),
    "sound": ("Sound", _text),
    "format": ("Format", _text),
    "layout": ("Keypoint layout", _text),
    "people": ("People", lambda value: "not tracked" if value is None else _text(value)),
    "complete": ("Complete", _text),
    "intrinsics_fx_fy_cx_cy": ("Camera", _camera),
    "detector": ("Detector", _model),
    "lifter": ("Lifter", _model),
    "trajectory": ("Trajectory model", _model),
    "keypoints": ("Keypoints", _keypoints),
    "input": ("Video file", _fingerprint),
    "settings": ("Settings", _settings),
    "assumed": ("Assumed", _assumed),
    "timing": ("Time taken", _timing),
    "warnings": ("Warnings", _text),
    "command": ("Command", _text),
    "version": ("vp3d version", _text),
}
