"""Sizes of images from their headers, and the limit that they are held against."""

from __future__ import annotations

import io
import os
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vp3d_cli.errors import ConfigError, VideoError
from vp3d_cli.video.images import max_pixels, read_image, read_size

SUFFIXES = [".png", ".jpg", ".bmp", ".webp", ".tif"]


def encoded(suffix: str, width: int, height: int, *options: int) -> bytes:
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3)).astype(np.uint8)
    done, data = cv2.imencode(suffix, image, list(options))
    assert done
    return data.tobytes()


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(("width", "height"), [(1, 1), (37, 5), (300, 260)])
def test_the_header_tells_the_size(suffix: str, width: int, height: int, tmp_path: Path) -> None:
    data = encoded(suffix, width, height)
    assert read_size(io.BytesIO(data)) == (width, height)
    path = tmp_path / f"image{suffix}"
    path.write_bytes(data)
    assert read_image(path).shape == (height, width, 3)


def test_other_kinds_of_webp() -> None:
    assert read_size(io.BytesIO(encoded(".webp", 37, 5, cv2.IMWRITE_WEBP_QUALITY, 101))) == (37, 5)  # lossless
    extended = b"RIFF\0\0\0\0WEBPVP8X" + struct.pack("<II", 10, 0) + bytes([36, 0, 0, 4, 0, 0])
    assert read_size(io.BytesIO(extended)) == (37, 5)


def test_other_kinds_of_bmp_and_tiff() -> None:
    assert read_size(io.BytesIO(b"BM" + bytes(12) + struct.pack("<IHHHH", 12, 37, 5, 1, 24) + bytes(9))) == (37, 5)
    upside_down = b"BM" + bytes(12) + struct.pack("<Iii", 40, 37, -5) + bytes(20)
    assert read_size(io.BytesIO(upside_down)) == (37, 5)
    big_endian = b"MM\0*" + struct.pack(">IH", 8, 2)
    big_endian += struct.pack(">HHIHH", 256, 3, 1, 37, 0) + struct.pack(">HHIHH", 257, 3, 1, 5, 0)
    assert read_size(io.BytesIO(big_endian)) == (37, 5)
    big_tiff = b"II+\0" + struct.pack("<HHQQ", 8, 0, 16, 2)
    big_tiff += struct.pack("<HHQQ", 256, 4, 1, 37) + struct.pack("<HHQQ", 257, 4, 1, 5)
    assert read_size(io.BytesIO(big_tiff)) == (37, 5)


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


@pytest.mark.parametrize("side", [25_000, 60_000])
def test_a_bomb_is_refused_from_its_header(side: int, tmp_path: Path) -> None:
    path = tmp_path / "bomb.png"
    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(100))))
    with pytest.raises(VideoError, match=f"{side}x{side} pixels .* limit of 100; .*--max-megapixels"):
        read_image(path)


def test_the_limit_can_be_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "image.png"
    path.write_bytes(encoded(".png", 400, 300))
    assert max_pixels() == 100_000_000
    monkeypatch.setenv("VP3D_MAX_MEGAPIXELS", "0.1")
    with pytest.raises(VideoError, match=r"more than the limit of 0\.1"):
        read_image(path)
    for wrong in ("many", "0", "-1", "nan", "1e9"):
        monkeypatch.setenv("VP3D_MAX_MEGAPIXELS", wrong)
        with pytest.raises(ConfigError, match="max-megapixels must be a number"):
            max_pixels()


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_cut_short_anywhere(suffix: str, tmp_path: Path) -> None:
    data = encoded(suffix, 30, 20)
    path = tmp_path / f"image{suffix}"
    for length in range(0, min(len(data), 400), 7):
        path.write_bytes(data[:length])
        try:
            image = read_image(path)
        except VideoError:
            continue
        assert image.shape == (20, 30, 3)  # some decoders show what there is


@given(st.sampled_from(SUFFIXES), st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), max_size=8))
def test_damaged_headers_raise_nothing_else(suffix: str, changes: list[tuple[int, int]]) -> None:
    data = bytearray(encoded(suffix, 30, 20))
    for place, value in changes:
        data[place % len(data)] = value
    try:
        width, height = read_size(io.BytesIO(bytes(data)))
    except ValueError:
        return
    assert width >= 0
    assert height >= 0


def test_a_name_ending_in_png_need_not_be_one(tmp_path: Path) -> None:
    path = tmp_path / "image.png"
    path.write_bytes(os.urandom(1000))
    with pytest.raises(VideoError, match="cannot be read as an image"):
        read_image(path)
