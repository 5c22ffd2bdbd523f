"""Images: list a folder, read the size from the header, decode below a limit on pixels."""

from __future__ import annotations

import math
import os
import struct
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np

from vp3d_cli.errors import ConfigError, VideoError
from vp3d_cli.io.atomic import is_image, natural_key, open_regular
from vp3d_cli.types import FrameBGR

DEFAULT_IMAGE_FPS = 30.0
# A 100-megapixel picture takes 300 MB decoded; the largest cameras in use have 50 to 60 megapixels.
DEFAULT_MAX_MEGAPIXELS = 100.0
MAX_MEGAPIXELS_VARIABLE = "VP3D_MAX_MEGAPIXELS"
# A JPEG has its size behind its metadata (a preview, a colour profile): so many segments are passed over at most.
_MAX_JPEG_SEGMENTS = 1000
_MAX_TIFF_TAGS = 1000


def max_pixels() -> int:
    """Return the limit on pixels of an image or video frame.

    It is 100 million, or ``VP3D_MAX_MEGAPIXELS``.

    Raises:
        ConfigError: the variable is not a positive number.
    """
    text = os.environ.get(MAX_MEGAPIXELS_VARIABLE) or str(DEFAULT_MAX_MEGAPIXELS)
    try:
        megapixels = float(text)
    except ValueError:
        megapixels = math.nan
    if not 0 < megapixels <= 2000:  # OpenCV and ffmpeg count pixels in 31 bits
        raise ConfigError(f"max-megapixels must be a number above 0 and at most 2000, got {text[:40]!r}")
    return int(megapixels * 1e6)


def check_size(path: Path, width: int, height: int) -> None:
    """Check a picture's size before memory is allocated for it.

    Raises:
        VideoError: it has no pixels, or more than :func:`max_pixels`.
    """
    if width < 1 or height < 1:
        raise VideoError(f"{path} is {width}x{height} pixels: there is no picture in it")
    limit = max_pixels()
    if width * height > limit:
        raise VideoError(
            f"{path} is {width}x{height} pixels ({width * height / 1e6:.0f} megapixels), more than the limit of "
            f"{limit / 1e6:g}; scale it down, or raise the limit with --max-megapixels"
        )


def list_images(path: Path) -> tuple[Path, ...]:
    """List the images of a folder in natural order (``img2`` before ``img10``).

    If ``path`` is an image, the list holds this image.

    Raises:
        VideoError: the path does not exist, or the folder has no images.
    """
    try:
        if not path.exists():
            raise VideoError(f"no such image: {path}; check the spelling and the folder")
        if not path.is_dir():
            return (path,)
        found = [entry for entry in path.iterdir() if is_image(entry.name) and not entry.is_dir()]
        special = [entry for entry in found if entry.exists() and not entry.is_file()]
    except OSError as error:
        raise VideoError(f"{path} cannot be opened: {error.strerror}; check its name and permissions") from None
    if special:
        raise VideoError(f"{special[0]} is a pipe, a device or a socket, not an image; remove it from the folder")
    if not found:
        raise VideoError(
            f"no images in the folder {path} (jpg, png, bmp, webp, tif); give a video file or a folder of images"
        )
    return tuple(sorted(found, key=lambda entry: natural_key(entry.name)))


def read_image(path: Path) -> FrameBGR:
    """Decode one image to (H, W, 3) BGR, turned upright by its EXIF orientation.

    Raises:
        VideoError: it is missing, not an image (jpg, png, bmp, webp or tif), or larger than the limit.
    """
    try:
        with open_regular(path) as file:
            check_size(path, *read_size(file))
            file.seek(0)
            # Not cv2.imread: on Windows it cannot open names beyond the system's code page.
            encoded = np.frombuffer(file.read(), np.uint8)
        image = cv2.imdecode(encoded, cv2.IMREAD_COLOR)
    except OSError as error:
        raise VideoError(f"{path} cannot be opened: {error.strerror or error}; check the file") from None
    except (ValueError, MemoryError, cv2.error):
        image = None
    if image is None:
        raise VideoError(f"{path} cannot be read as an image; remove or replace it")
    return np.asarray(image, np.uint8)


def read_size(file: BinaryIO) -> tuple[int, int]:
    """Width and height of an image from its header; nothing is decoded.

    Sources: PNG (ISO 15948, IHDR), JPEG (ITU-T T.81, frame header), BMP (BITMAPCOREHEADER, BITMAPINFOHEADER), WebP
    (RFC 9649), TIFF 6.0 and BigTIFF.

    Raises:
        ValueError: it is none of these, or cut short.
    """
    head = file.read(30)
    try:
        if head.startswith(b"\x89PNG\r\n\x1a\n") and head[12:16] == b"IHDR":
            return _pair(">II", head[16:24])
        if head.startswith(b"\xff\xd8"):
            return _jpeg_size(file)
        if head.startswith(b"BM"):
            return _bmp_size(head)
        if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
            return _webp_size(head)
        if head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
            return _tiff_size(file, head)
    except (struct.error, IndexError, OverflowError, OSError):
        raise ValueError("the header is cut short or damaged") from None
    raise ValueError("not an image of a known format")


def _pair(layout: str, data: bytes) -> tuple[int, int]:
    first, second = struct.unpack(layout, data)
    return int(first), int(second)


def _jpeg_size(file: BinaryIO) -> tuple[int, int]:
    file.seek(2)
    for _ in range(_MAX_JPEG_SEGMENTS):
        marker = file.read(2)
        while marker == b"\xff\xff":  # fill bytes
            marker = b"\xff" + file.read(1)
        if len(marker) != 2 or marker[0] != 0xFF:
            break
        if marker[1] in (0x01, *range(0xD0, 0xD9)):  # markers without a segment
            continue
        (length,) = struct.unpack(">H", file.read(2))
        if 0xC0 <= marker[1] <= 0xCF and marker[1] not in (0xC4, 0xC8, 0xCC):
            height, width = _pair(">HH", file.read(5)[1:])
            return width, height
        file.seek(length - 2, os.SEEK_CUR)
    raise ValueError("no frame header")


def _bmp_size(head: bytes) -> tuple[int, int]:
    if struct.unpack("<I", head[14:18])[0] == 12:
        return _pair("<HH", head[18:22])
    width, height = _pair("<ii", head[18:26])
    return abs(width), abs(height)  # a negative height: the top row comes first


def _webp_size(head: bytes) -> tuple[int, int]:
    kind = head[12:16]
    if kind == b"VP8X":
        return 1 + int.from_bytes(head[24:27], "little"), 1 + int.from_bytes(head[27:30], "little")
    if kind == b"VP8L":
        bits = int.from_bytes(head[21:25], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if kind == b"VP8 ":
        width, height = _pair("<HH", head[26:30])
        return width & 0x3FFF, height & 0x3FFF
    raise ValueError("no WebP picture")


def _tiff_size(file: BinaryIO, head: bytes) -> tuple[int, int]:
    order = "<" if head[:2] == b"II" else ">"
    big = head[2:4] in (b"+\0", b"\0+")
    where, count_layout, entry = ("Q", "Q", 20) if big else ("I", "H", 12)
    offset_at = 8 if big else 4
    size = struct.calcsize(order + where)
    (offset,) = struct.unpack(order + where, head[offset_at : offset_at + size])
    file.seek(offset)
    (count,) = struct.unpack(order + count_layout, file.read(struct.calcsize(order + count_layout)))
    tags: dict[int, int] = {}
    for _ in range(min(count, _MAX_TIFF_TAGS)):
        data = file.read(entry)
        tag, kind = struct.unpack(order + "HH", data[:4])
        if tag in (256, 257):  # ImageWidth, ImageLength: SHORT, LONG or LONG8
            layout = {3: "H", 4: "I", 16: "Q"}[kind] if kind in (3, 4, 16) else "I"
            tags[tag] = struct.unpack_from(order + layout, data, 12 if big else 8)[0]
    if len(tags) != 2:
        raise ValueError("no size among the tags")
    return tags[256], tags[257]
