"""Reader of BVH motion capture (Biovision): skeleton hierarchy and channel values.

What the format leaves open is read as by MotionBuilder and Blender: rotations apply in the order of the channels, about
the rotated axes; position channels replace the offset of the joint.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from vp3d_cli.train.mocap.recording import Lines, Recording, axis_rotation
from vp3d_cli.types import DoubleArray

_CHANNELS = tuple(f"{axis}{kind}" for kind in ("position", "rotation") for axis in "xyz")


@dataclass
class _Node:
    name: str
    parent: int
    offset: list[float] | None = None
    channels: list[str] = field(default_factory=list)
    first_channel: int = 0


def read_bvh(path: Path) -> Recording:
    """Read a BVH file.

    The end of each outermost bone becomes a node ``NAME_end``.

    Raises:
        InputError: the file is unreadable or truncated, its hierarchy is broken, or a value is not finite; the message
            has the line number.
    """
    lines = Lines(path)
    nodes = _read_hierarchy(lines)
    fps, values = _read_motion(lines, sum(len(node.channels) for node in nodes))
    parents = tuple(node.parent for node in nodes)
    offsets = np.array([node.offset for node in nodes], np.float64)
    positions, rotations = _pose(nodes, offsets, values)
    return Recording(path, fps, tuple(node.name for node in nodes), parents, positions, rotations)


def _read_hierarchy(lines: Lines) -> list[_Node]:
    number, line = lines.next("HIERARCHY")
    if line.upper() != "HIERARCHY":
        raise lines.error(number, f"a BVH file begins with HIERARCHY, found {line[:30]!r}")
    nodes: list[_Node] = []
    open_nodes: list[int] = []  # nodes whose brace is not closed yet
    channels = 0
    for number, line in lines:
        words = line.split()
        keyword = words[0].upper()
        if keyword in ("ROOT", "JOINT", "END"):
            _open(lines, number, line, nodes, open_nodes)
        elif keyword == "}":
            if not open_nodes:
                raise lines.error(number, "closing brace without an opening brace")
            if nodes[open_nodes[-1]].offset is None:
                raise lines.error(number, f"joint {nodes[open_nodes[-1]].name} has no OFFSET")
            open_nodes.pop()
        elif keyword == "OFFSET" and open_nodes:
            nodes[open_nodes[-1]].offset = lines.numbers(number, words[1:], 3, "OFFSET")
        elif keyword == "CHANNELS" and open_nodes:
            node = nodes[open_nodes[-1]]
            node.channels, node.first_channel = _channels(lines, number, words), channels
            channels += len(node.channels)
        elif keyword == "MOTION":
            if open_nodes:
                raise lines.error(number, f"MOTION begins, but the brace of {nodes[open_nodes[-1]].name} is open")
            if not nodes:
                raise lines.error(number, "MOTION begins before any ROOT")
            return nodes
        else:
            raise lines.error(number, f"{line[:30]!r} is not part of a hierarchy")
    raise lines.error(None, "the file ends before MOTION; is it cut off?")


def _open(lines: Lines, number: int, line: str, nodes: list[_Node], open_nodes: list[int]) -> None:
    """Parse ``ROOT name``, ``JOINT name`` or ``End Site``, and the opening brace."""
    if line.endswith("{"):
        line = line[:-1].strip()
    else:
        brace_number, brace = lines.next("{")
        if brace != "{":
            raise lines.error(brace_number, f"'{{' must follow {line[:40]!r}, found {brace[:30]!r}")
    keyword, _, name = line.partition(" ")
    if keyword.upper() == "ROOT":
        if nodes:
            raise lines.error(number, "a second ROOT: one skeleton per file; split the file")
        parent = -1
    elif not open_nodes:
        raise lines.error(number, f"{line[:40]!r} is outside of ROOT")
    else:
        parent = open_nodes[-1]
    name = f"{nodes[parent].name}_end" if keyword.upper() == "END" else name.strip()
    if not name:
        raise lines.error(number, "a joint without a name")
    open_nodes.append(len(nodes))
    nodes.append(_Node(name, parent))


def _channels(lines: Lines, number: int, words: list[str]) -> list[str]:
    names = [word.lower() for word in words[2:]]
    if not words[1:] or words[1] != str(len(names)):
        raise lines.error(number, f"CHANNELS says {' '.join(words[1:2])}, but {len(names)} follow")
    for name in names:
        if name not in _CHANNELS or names.count(name) > 1:
            raise lines.error(number, f"channel {name!r} is unknown or given twice")
    return names


def _read_motion(lines: Lines, channels: int) -> tuple[float, DoubleArray]:
    """Read frames per second, and the values (F, channels)."""
    frames = round(_header(lines, "Frames:"))
    frame_time = _header(lines, "Frame Time:")
    if frame_time <= 0:
        raise lines.error(None, f"Frame Time must be positive, got {frame_time:g}")
    rows = lines.rest()
    if len(rows) != frames:
        number = rows[frames][0] if len(rows) > frames else None
        cut = "; is the file cut off?" if len(rows) < frames else ""
        raise lines.error(number, f"{frames} frames are announced, {len(rows)} lines follow{cut}")
    try:
        values = np.array([row.split() for _, row in rows], np.float64).reshape(frames, -1)
    except ValueError:
        values = np.empty((0, 0))
    if values.shape != (frames, channels) or not np.isfinite(values).all():
        # Parse line by line, to find the line of the error.
        values = np.array([lines.numbers(number, row.split(), channels, "a frame") for number, row in rows])
        values = values.reshape(frames, channels)
    return 1.0 / frame_time, values


def _header(lines: Lines, name: str) -> float:
    number, line = lines.next(name)
    words, wanted = line.split(), name.lower().split()
    if [word.lower() for word in words[: len(wanted)]] != wanted:
        raise lines.error(number, f"expected '{name}', found {line[:30]!r}")
    return lines.numbers(number, words[len(wanted) :], 1, name)[0]


def _pose(nodes: list[_Node], offsets: DoubleArray, values: DoubleArray) -> tuple[DoubleArray, DoubleArray]:
    """Compute positions (F, N, 3) and rotations (F, N, 3, 3) by forward kinematics."""
    frames = len(values)
    positions, rotations = np.zeros((frames, len(nodes), 3)), np.zeros((frames, len(nodes), 3, 3))
    for i, node in enumerate(nodes):
        place = np.tile(offsets[i], (frames, 1))
        turn = np.tile(np.eye(3), (frames, 1, 1))
        for c, channel in enumerate(node.channels, start=node.first_channel):
            axis, kind = channel[0], channel[1:]
            if kind == "position":
                place[:, "xyz".index(axis)] = values[:, c]
            else:
                turn = turn @ axis_rotation(axis, np.radians(values[:, c]))
        if node.parent < 0:
            positions[:, i], rotations[:, i] = place, turn
        else:
            above = rotations[:, node.parent]
            positions[:, i] = positions[:, node.parent] + (above @ place[..., None])[..., 0]
            rotations[:, i] = above @ turn
    return positions, rotations
