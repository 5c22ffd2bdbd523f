"""Raw frames with their times as a Matroska stream: what tells ffmpeg the time of each frame that comes through a pipe.

Only what that needs, after RFC 9559 (Matroska) and RFC 8794 (EBML, its binary form).
"""

from __future__ import annotations

import struct

_MICROSECOND_NS = 1000


def stream_header(size_wh: tuple[int, int], frame_s: float) -> bytes:
    """The start of a stream of uncompressed BGR frames.

    Args:
        size_wh: (width, height) in pixels.
        frame_s: how long a frame is shown, for the last one.
    """
    width, height = size_wh
    ebml = _number("42F7", 1) + _element("4282", b"matroska") + _number("4287", 4) + _number("4285", 2)
    info = _number("2AD7B1", _MICROSECOND_NS) + _element("4D80", b"vp3d") + _element("5741", b"vp3d")
    # The colour space is the four letters that AVI has for 24 bits of blue, green, red.
    video = _number("B0", width) + _number("BA", height) + _element("2EB524", b"BGR\x18")
    track = (
        _number("D7", 1)  # number
        + _number("73C5", 1)  # unique number
        + _number("83", 1)  # of type video
        + _number("23E383", max(1, round(frame_s * 1e9)))  # default duration
        + _element("86", b"V_UNCOMPRESSED")
        + _element("E0", video)
    )
    unknown_size = b"\x01" + b"\xff" * 7
    return (
        _element("1A45DFA3", ebml)
        + bytes.fromhex("18538067")
        + unknown_size
        + _element("1549A966", info)
        + _element("1654AE6B", _element("AE", track))
    )


def frame_header(time_s: float, frame_bytes: int) -> bytes:
    """What goes before the bytes of a frame.

    Each has a cluster of its own: within one, times are 16-bit numbers, which is 32 ms in microseconds.
    """
    time = _number("E7", round(time_s * 1e6))
    block = b"\x81" + b"\x00\x00" + b"\x80"  # track 1, at the cluster's time, a key frame
    block_size = len(block) + frame_bytes
    simple_block = b"\xa3" + _size(block_size)
    cluster_size = len(time) + len(simple_block) + block_size
    return bytes.fromhex("1F43B675") + _size(cluster_size) + time + simple_block + block


def _element(identity: str, content: bytes) -> bytes:
    return bytes.fromhex(identity) + _size(len(content)) + content


def _number(identity: str, value: int) -> bytes:
    return _element(identity, struct.pack(">Q", value))


def _size(count: int) -> bytes:
    return struct.pack(">Q", count | 1 << 56)  # eight bytes, the first of which says so
