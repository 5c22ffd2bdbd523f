"""Read a video's packets without decoding: times of all frames, and holes in AVI files."""

from __future__ import annotations

import os
import re
import struct
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from vp3d_cli.errors import VideoError
from vp3d_cli.video import ffmpeg as program

# A packet that the file stores but does not show: it lies before the start of an edit list.
_DISCARD = 4
_NO_TIME = -(1 << 62)
# Two days at 60 frames per second; more are a forgery that would fill the memory.
_MAX_PACKETS = 10_000_000
# An index entry of an AVI file: chunk name, flags, offset, size.
_ENTRY = struct.Struct("<4sIII")
_MAX_INDEX_BYTES = _MAX_PACKETS * _ENTRY.size
_MAX_CHUNKS = 100_000
_AVI_HEADER_BYTES = 1 << 16


@dataclass
class Packets:
    """Packets of a stream, as listed by ffmpeg's ``framecrc``.

    Attributes:
        unit_s: length of a tick in seconds; 0 where there are no packets.
        ticks: presentation time of each packet that is shown, in the order of the file; of decoding, where the
            container has no other (AVI).
        sizes: of the same packets, bytes.
        count: packets listed, those that are not shown included.
        complaint: what ffmpeg says is wrong with the file; empty if nothing.
    """

    unit_s: float = 0.0
    ticks: array[int] = field(default_factory=lambda: array("q"))
    sizes: array[int] = field(default_factory=lambda: array("q"))
    count: int = 0
    complaint: str = ""

    def take(self, line: bytes) -> bool:
        """Add a line of the list; False when there are more than any video has."""
        if line.startswith(b"0,"):
            return self._add(line)
        if base := re.match(rb"#tb 0: (\d+)/(\d+)", line):
            self.unit_s = int(base[1]) / int(base[2]) if int(base[2]) else 0.0
        return True

    @property
    def times_s(self) -> list[float]:
        """Presentation times of the packets that are shown, rising."""
        return [tick * self.unit_s for tick in sorted(self.ticks)]

    def _add(self, line: bytes) -> bool:
        columns = line.split(b",")
        if len(columns) < 6:
            return True
        self.count += 1
        flags = next((int(column.strip()[2:], 16) for column in columns[6:] if column.strip().startswith(b"F=")), 0)
        if not flags & _DISCARD:
            shown = _NO_TIME if columns[2].strip() == b"NOPTS" else int(columns[2])
            self.ticks.append(shown if shown > _NO_TIME else int(columns[1]))
            self.sizes.append(int(columns[4]))
        return self.count < _MAX_PACKETS


def parse_packets(listing: bytes) -> Packets:
    """The packets of a list that is in memory."""
    packets = Packets()
    for line in listing.splitlines():
        packets.take(line)
    return packets


def copy_packets(source: object, **options: object) -> object:
    """The ffmpeg-python output that lists the picture's packets on stdout."""
    return source.output("pipe:", map="0:V:0", c="copy", f="framecrc", **options)  # type: ignore[attr-defined]


def read_packets(path: Path) -> Packets:
    """Read all packets of the picture without decoding them.

    A file that was cut off is told by ffmpeg's complaint (``partial file``, ``File ended prematurely``); a sound track
    that outlasts the picture raises none.

    Raises:
        VideoError: there are more than any video has.
        MissingDependencyError: no ffmpeg.
    """
    packets = Packets()
    arguments = program.command(copy_packets(program.source(path, v="error")))
    words, status = program.read_lines(arguments, path.stat().st_size, packets.take)
    if packets.count >= _MAX_PACKETS:
        raise VideoError(f"{path} has more than {_MAX_PACKETS} frames; cut it into shorter videos")
    packets.complaint = program.reason(words, status) if words.strip() or status < 0 else ""
    return packets


class AviClock:
    """True times of the frames of an AVI file.

    An AVI file stores no times: a frame's time is its number divided by the rate, and ffmpeg counts the frames that it
    finds. Behind a hole all its times are too early. The file's index has all frames; those that are found are
    recognised in it by their place and size.

    Attributes:
        indexed_s: times of all frames in the index, from 0, those in holes included; empty where there are no holes.
    """

    def __init__(self, sizes: Sequence[int] = (), packets: Packets | None = None) -> None:
        """Create it from the sizes in the index (-1 in a hole) and the packets.

        Without them, the times that ffmpeg reports are used.
        """
        packets = packets or Packets()
        self._ticks, self._unit_s = packets.ticks, packets.unit_s
        numbers = _match(packets.sizes, sizes)
        self._shifts = [number - tick for number, tick in zip(numbers, packets.ticks, strict=True)]
        # A frame without bytes repeats the one before it.
        self.indexed_s = [number * self._unit_s for number, size in enumerate(sizes) if size]

    @classmethod
    def of(cls, path: Path) -> AviClock:
        """Compare an AVI file with its index; all packets are read if they differ.

        Raises:
            VideoError, MissingDependencyError: see :func:`read_packets`.
        """
        with path.open("rb") as file:
            sizes = _index(file)
        if sizes is None or all(size >= 0 for size in sizes):
            return cls()
        return cls(sizes, read_packets(path))

    @property
    def has_holes(self) -> bool:
        """Whether ffmpeg's times are wrong anywhere."""
        return any(self._shifts)

    def __call__(self, time_s: float) -> float:
        """The true time of what ffmpeg gives this time."""
        if not self._shifts or not self._unit_s:
            return time_s
        place = bisect_right(self._ticks, round(time_s / self._unit_s)) - 1
        return time_s + self._shifts[max(0, min(place, len(self._shifts) - 1))] * self._unit_s


def is_whole_gif(path: Path) -> bool:
    """Whether the blocks of a GIF are complete up to its trailer (GIF89a).

    The decoder stops at an invalid block.
    """
    with path.open("rb") as file:
        head = file.read(13)
        if len(head) < 13:
            return False
        _skip_colours(file, head[10])
        while kind := file.read(1):
            if kind == b";":
                return True
            if kind == b"!":
                file.seek(1, os.SEEK_CUR)  # which extension
            elif kind == b",":
                _skip_colours(file, (file.read(9) or b"\0")[-1])
                file.seek(1, os.SEEK_CUR)  # bits of a code
            else:
                return False
            while length := file.read(1):
                if length == b"\0":
                    break
                file.seek(length[0], os.SEEK_CUR)
    return False


def _skip_colours(file: BinaryIO, flags: int) -> None:
    if flags & 0x80:
        file.seek(3 << ((flags & 7) + 1), os.SEEK_CUR)


def read_avi_length(path: Path) -> float:
    """Return the duration of the picture in seconds by an AVI header (AVISTREAMHEADER).

    0 where it states none.
    """
    with path.open("rb") as file:
        head = file.read(_AVI_HEADER_BYTES)
    at = head.find(b"vids")
    if at < 8 or head[at - 8 : at - 4] != b"strh" or len(head) < at + 36:
        return 0.0
    scale, rate, _, length = struct.unpack_from("<IIII", head, at + 20)
    return float(length * scale / rate) if rate else 0.0


def _match(found: Iterable[int], sizes: Sequence[int]) -> list[int]:
    """The number in the index of each packet that was found, by its size; in order."""
    numbers: list[int] = []
    at = 0
    intact = [number for number, size in enumerate(sizes) if size > 0]
    for size in found:
        later = next((k for k in range(at, len(intact)) if sizes[intact[k]] == size), None)
        if later is not None:
            at = later + 1
        # What is not in the index follows the frame before it.
        numbers.append(intact[later] if later is not None else numbers[-1] + 1 if numbers else 0)
    return numbers


def _index(file: BinaryIO) -> array[int] | None:
    """Return the size of each frame by the index of an AVI file.

    -1 where the file has other data in its place; None without an index.
    """
    try:
        movi, where, length = _find_index(file)
        file.seek(where)
        entries = file.read(min(length, _MAX_INDEX_BYTES))
    except (struct.error, ValueError, OSError):
        return None
    entries = entries[: len(entries) // _ENTRY.size * _ENTRY.size]
    frames = [entry for entry in _ENTRY.iter_unpack(entries) if entry[0][2:] in (b"dc", b"db")]
    stream = min((entry[0][:2] for entry in frames), default=b"")
    frames = [entry for entry in frames if entry[0][:2] == stream]
    if not frames:
        return None
    # Offsets count from the list's name, or from the start of the file.
    base = movi if frames[0][2] < movi else 0
    return array("q", (_size_at(file, base + offset, name, size) for name, _, offset, size in frames))


def _size_at(file: BinaryIO, offset: int, name: bytes, size: int) -> int:
    if size == 0:
        return 0
    file.seek(offset)
    return size if file.read(8) == name + struct.pack("<I", size) else -1


def _find_index(file: BinaryIO) -> tuple[int, int, int]:
    """Offset of the name of the list of frames, and offset and length of the index behind it.

    Raises:
        ValueError, struct.error: not an AVI file, or without an index.
    """
    riff, _, kind = struct.unpack("<4sI4s", file.read(12))
    if (riff, kind) != (b"RIFF", b"AVI "):
        raise ValueError("no AVI file")
    movi = 0
    for _ in range(_MAX_CHUNKS):
        name, length = struct.unpack("<4sI", file.read(8))
        here = file.tell()
        if name == b"idx1" and movi:
            return movi, here, length
        if name == b"LIST" and file.read(4) == b"movi":
            movi = here
        file.seek(here + length + length % 2, os.SEEK_SET)
    raise ValueError("no index")
