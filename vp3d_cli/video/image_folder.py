"""Write frames as numbered PNG images into a folder."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import cv2

from vp3d_cli.errors import OutputError
from vp3d_cli.io.atomic import remove_leftovers, temporary_name
from vp3d_cli.types import FrameBGR

_OURS = re.compile(r"\d{5,}\.png")
_FAST = [cv2.IMWRITE_PNG_COMPRESSION, 1]


class ImageFolderWriter:
    """Writes frames to PNG images such as ``00012.png`` in a folder; use it in a ``with`` statement.

    The images are written into a folder beside the target. When all are there it takes the target's place; on any
    error it is removed and the target is as it was.

    Args:
        path: the folder to write.
        numbers: number of each image to come.
        overwrite: replace a folder that exists, if there are only such images in it.

    Raises:
        OutputError: the folder exists, or its parent does not, or it holds other files.
    """

    def __init__(self, path: str | Path, numbers: Sequence[int], *, overwrite: bool = False) -> None:
        self.path = Path(path)
        self._numbers = numbers
        self._overwrite = overwrite
        self._count = 0
        self._folder: Path | None = None
        check_image_folder(self.path, overwrite)

    def __enter__(self) -> ImageFolderWriter:
        try:
            remove_leftovers(self.path.parent)
            folder = temporary_name(self.path.parent)
            folder.mkdir()
        except OSError as error:
            raise OutputError(f"cannot write into the folder {self.path.parent}: {error.strerror}") from None
        self._folder = folder
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._folder is None:
            return
        try:
            if kind is None:
                self._finish(self._folder)
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)

    def write(self, image: FrameBGR) -> None:
        """Write the next frame, (H, W, 3) BGR uint8.

        Raises:
            OutputError: the disk is full, or the folder is gone.
        """
        if self._folder is None:
            raise RuntimeError("use an ImageFolderWriter in a with statement")
        encoded = cv2.imencode(".png", image, _FAST)[1]
        try:
            (self._folder / f"{self._numbers[self._count]:05d}.png").write_bytes(encoded.tobytes())
        except OSError as error:
            raise OutputError(f"cannot write {self.path}: {error.strerror}; write elsewhere") from None
        self._count += 1

    def _finish(self, folder: Path) -> None:
        check_image_folder(self.path, self._overwrite)  # someone else may have written it meanwhile
        try:
            if self.path.is_dir():
                shutil.rmtree(self.path)
            os.replace(folder, self.path)
        except OSError as error:
            raise OutputError(f"cannot write {self.path}: {error.strerror}; write elsewhere") from None


def check_image_folder(path: Path, overwrite: bool) -> None:
    """Check that a folder of images could be written.

    Raises:
        OutputError: it exists and ``overwrite`` is not set, it holds other files, or its parent is missing.
    """
    if not path.parent.is_dir():
        raise OutputError(f"{path}: the folder {path.parent} does not exist; create it or choose another")
    if not os.path.lexists(path):
        return
    if path.is_symlink() or not path.is_dir():
        raise OutputError(f"{path}: exists and is no folder; give another name, or one with an ending such as .mp4")
    if not overwrite:
        raise OutputError(f"{path}: exists already; choose another name or pass --overwrite")
    if other := next((name for name in os.listdir(path) if not _OURS.fullmatch(name)), None):
        raise OutputError(f"{path}: holds other files, such as {other}; give a new folder")
