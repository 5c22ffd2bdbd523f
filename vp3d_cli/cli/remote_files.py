"""Videos and results at URLs for ``vp3d infer``: copied to local files before the work, and sent after it."""

from __future__ import annotations

import shutil
import tempfile
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType

from vp3d_cli.errors import OutputError, Vp3dError
from vp3d_cli.io.atomic import check_target
from vp3d_cli.jobs.storage import Place, fetch, publish, refresh


class LocalFiles(AbstractContextManager["LocalFiles"]):
    """Local files for the URLs of one video and its outputs; paths are left as they are. A context manager.

    Errors that pass through it name what the user named.
    """

    def __init__(self) -> None:
        """Nothing is copied yet."""
        self._folder: Path | None = None
        self._names: dict[Path, Place] = {}

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
        if isinstance(error, Vp3dError) and self._names:
            message = str(error)
            for local, place in self._names.items():
                message = message.replace(str(local), str(place))
            raise type(error)(message) from error

    def copy_in(self, place: Place) -> Path:
        """Local path of a video: its own, or that of a copy.

        Raises:
            InputError: it cannot be copied.
        """
        if isinstance(place, Path):
            return place
        copy = fetch(place, self._new_folder())
        self._names[copy] = place
        return copy

    def target(self, place: Place, overwrite: bool) -> Path:
        """Local path to write a result to, which :meth:`copy_out` then sends to its place.

        Raises:
            OutputError: it exists and may not be replaced, or cannot be written.
        """
        if isinstance(place, Path):
            check_target(place, overwrite)
            return place
        if not overwrite and refresh(place).exists():
            raise OutputError(f"{place}: exists already; choose another name or pass --overwrite")
        local = self._new_folder() / place.name
        self._names[local] = place
        return local

    def copy_out(self, local: Path, place: Place) -> None:
        """Send a finished file to its place.

        Raises:
            OutputError: it cannot be sent.
        """
        if not isinstance(place, Path):
            publish(local, place, place.parent / ".vp3d-partial")

    def source(self, place: Place) -> str | None:
        """URL of a video that was copied, for the provenance; None for a local one."""
        return None if isinstance(place, Path) else str(place)

    def keep(self, place: Place) -> Path | None:
        """Cache of detections for a result at a URL, in the current folder; None for a local result."""
        if isinstance(place, Path):
            return None
        from vp3d_cli.pipeline.detection_cache import cache_path

        return cache_path(place.name)

    def _new_folder(self) -> Path:
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="vp3d-"))
        return Path(tempfile.mkdtemp(dir=self._folder))
