"""Frames as PNG images in a folder: whole or not at all, and nothing of others is lost."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from vp3d_cli.errors import OutputError
from vp3d_cli.video.image_folder import ImageFolderWriter

IMAGE = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_images_have_their_numbers_and_pixels(tmp_path: Path) -> None:
    with ImageFolderWriter(tmp_path / "frames", [3, 123456]) as out:
        out.write(IMAGE)
        out.write(IMAGE)
        assert not (tmp_path / "frames").exists()
    assert names(tmp_path) == ["frames"]
    assert names(tmp_path / "frames") == ["00003.png", "123456.png"]
    np.testing.assert_array_equal(cv2.imread(str(tmp_path / "frames" / "00003.png")), IMAGE)


def test_an_error_leaves_everything_as_it_was(tmp_path: Path) -> None:
    folder = tmp_path / "frames"
    folder.mkdir()
    (folder / "00000.png").write_bytes(b"old")
    with pytest.raises(ValueError, match="drawing"), ImageFolderWriter(folder, [1], overwrite=True) as out:  # noqa: PT012
        out.write(IMAGE)
        raise ValueError("drawing failed")
    assert names(tmp_path) == ["frames"]
    assert (folder / "00000.png").read_bytes() == b"old"


def test_what_it_refuses_to_replace(tmp_path: Path) -> None:
    folder = tmp_path / "frames"
    folder.mkdir()
    with pytest.raises(OutputError, match="exists already"):
        ImageFolderWriter(folder, [0])
    (folder / "thesis.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"holds other files, such as thesis\.txt"):
        ImageFolderWriter(folder, [0], overwrite=True)
    with pytest.raises(OutputError, match="does not exist"):
        ImageFolderWriter(tmp_path / "no" / "frames", [0])
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OutputError, match="no folder"):
        ImageFolderWriter(tmp_path / "file", [0], overwrite=True)
    assert (folder / "thesis.txt").read_text() == "mine"
