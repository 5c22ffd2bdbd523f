"""A folder of images as a video: natural order, one size, evenly spaced times."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from vp3d_cli.errors import VideoError
from vp3d_cli.io.atomic import is_image, natural_key
from vp3d_cli.types import FrameBGR
from vp3d_cli.video.frames import TimedFrames, decoded

DEFAULT_IMAGE_FPS = 30.0


def list_images(path: Path) -> tuple[Path, ...]:
    """The images of a folder in natural order (``img2`` before ``img10``), or the one image that ``path`` is.

    Raises:
        VideoError: the path does not exist, or the folder has no images.
    """
    if not path.exists():
        raise VideoError(f"no such image: {path}; check the spelling and the folder")
    if path.is_file():
        return (path,)
    try:
        found = [entry for entry in path.iterdir() if is_image(entry.name)]
    except OSError as error:
        raise VideoError(f"folder {path} cannot be opened: {error.strerror}; check its permissions") from None
    if not found:
        raise VideoError(
            f"no images in the folder {path} (jpg, png, bmp, webp, tif); give a video file or a folder of images"
        )
    return tuple(sorted(found, key=lambda entry: natural_key(entry.name)))


def read_image(path: Path) -> FrameBGR:
    """One image as (H, W, 3) BGR, turned upright by its EXIF orientation.

    Raises:
        VideoError: it is missing or not an image.
    """
    try:
        # Not cv2.imread: on Windows it cannot open names beyond the system's code page.
        encoded = np.frombuffer(path.read_bytes(), np.uint8)
    except OSError as error:
        raise VideoError(f"{path} cannot be opened: {error.strerror}; check the file") from None
    image = cv2.imdecode(encoded, cv2.IMREAD_COLOR) if len(encoded) else None
    if image is None:
        raise VideoError(f"{path} cannot be read as an image; remove or replace it")
    return np.asarray(image, np.uint8)


def image_frames(
    images: Sequence[Path], fps: float, size_wh: tuple[int, int], start_s: float, warnings: list[str]
) -> TimedFrames:
    """The images from a little before ``start_s`` on, image k at ``k / fps`` seconds.

    One that cannot be read is left out (the others keep their times), and ``warnings`` gets a sentence that says so.

    Raises:
        VideoError: an image has another size than the first.
    """
    broken: list[Path] = []
    try:
        for index in range(max(0, math.floor(start_s * fps)), len(images)):
            path = images[index]
            try:
                image = read_image(path)
            except VideoError:
                broken.append(path)
                continue
            if image.shape[1::-1] != size_wh:
                raise VideoError(
                    f"{path} is {image.shape[1]}x{image.shape[0]}, but the first image of its folder is "
                    f"{size_wh[0]}x{size_wh[1]}; the images of a video must have one size"
                )
            yield decoded(index / fps, image)
    finally:  # whoever reads may not want all of them
        if broken:
            left_out = f"{len(broken)} of {len(images)} images cannot be read and were left out"
            warnings.append(f"{left_out}, first {broken[0]}")
