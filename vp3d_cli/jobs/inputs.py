"""Find videos among files and folders by their content, not only by name."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

from vp3d_cli.errors import InputError
from vp3d_cli.io.atomic import IMAGE_SUFFIXES, is_image, natural_key
from vp3d_cli.jobs.storage import Place, entries_of, inside, modification, reaching, refresh

# One image in a folder is a poster or a thumbnail; two are a very short film.
_FEWEST_IMAGES = 2
STATE = ".vp3d-batch"  # a folder that has this one in it holds results
# A file with such a name was meant to be a video: when its content is broken, that is a failure, and no other file.
# ".ts" is missing: TypeScript; transport streams are known by their content.
_VIDEO_SUFFIXES = frozenset(
    {
        ".3g2", ".3gp", ".asf", ".avi", ".divx", ".dv", ".f4v", ".flv", ".gif", ".h264", ".h265", ".hevc", ".m2ts",
        ".m2v", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".mxf", ".ogv", ".qt", ".rm", ".rmvb",
        ".vob", ".webm", ".wmv", ".y4m",
    }
)  # fmt: skip
# Containers that look like a video's but are known not to hold one.
_OTHER_SUFFIXES = frozenset(
    {
        ".aac", ".aif", ".aiff", ".avif", ".flac", ".heic", ".heif", ".m4a", ".m4b", ".m4p", ".mka", ".mp3", ".oga",
        ".opus", ".wav", ".webp", ".wma",
    }
)  # fmt: skip
_FIRST_BYTES = 1024
# ISO 14496-12 section 4.3: major brands of sound (M4A...) and of still pictures (HEIF, AVIF, Canon's CR3).
_OTHER_BRANDS = frozenset({b"M4A ", b"M4B ", b"M4P ", b"heic", b"heix", b"mif1", b"msf1", b"avif", b"crx "})
_SIGNATURES = (
    b"\x1a\x45\xdf\xa3",  # EBML: Matroska, WebM
    b"GIF87a",
    b"GIF89a",
    b"\x30\x26\xb2\x75\x8e\x66\xcf\x11",  # ASF
    b"FLV\x01",
    b"\x00\x00\x01\xba",  # MPEG program stream
    b"\x00\x00\x01\xb3",  # MPEG video
    b"\x06\x0e\x2b\x34\x02\x05",  # MXF
    b"YUV4MPEG2 ",
    b".RMF",
)
_TS_PACKETS = ((0, 188), (4, 192))  # offset and length of packets: plain, and with a time stamp before each (M2TS)


@dataclass(frozen=True)
class BatchInput:
    """A video to process.

    Attributes:
        path: the file or folder of images, absolute; or a URL.
        place: where it stands in the tree that the results mirror, with its name.
        size: bytes of it; of all images in a folder.
    """

    path: Place
    place: PurePosixPath
    size: int


def find_inputs(
    arguments: Sequence[Place], *, globs: Sequence[str] = (), exclude: Collection[Place] = ()
) -> list[BatchInput]:
    """Find the videos in files and folders, in natural order (``take2`` before ``take10``).

    Folders are searched to the bottom. A file found there counts if its first bytes are those of a video, or its name
    is and its content will then be complained of; a folder of at least two images, and no video, counts as one video.
    Hidden files and folders are left out, and so are folders that a batch has written into. A file or folder that is
    named in ``arguments`` counts whatever it is. A link that leads nowhere counts if its name is that of a video.

    The place of a video is its path within the folder that is searched; with several arguments, its path within the
    deepest folder that they have in common.

    Args:
        arguments: files and folders; all paths, or all URLs of one store.
        globs: if any, only what matches one of them, capitals or not: the name, or with a ``/`` in the pattern the
            place.
        exclude: folders that are not searched: where results go.

    Raises:
        InputError: an argument does not exist, or cannot be reached.
    """
    for argument in arguments:
        with reaching(argument):
            if not refresh(argument).exists():
                raise InputError(f"no such file or folder: {argument}")
    roots = [Path(os.path.abspath(place)) if isinstance(place, Path) else place for place in arguments]
    base = _common_base(roots)
    closed = {_key(folder) for folder in exclude} - {_key(root) for root in roots}
    found: dict[str, BatchInput] = {}
    with reaching(arguments[0]):
        for root in roots:
            for path, size in _search(root, closed) if root.is_dir() else [(root, modification(root)["size"])]:
                place = inside(path, base) if path != base else PurePosixPath(path.name or "video")
                if path == root or _matches(place, globs):
                    found[_key(path)] = BatchInput(path, place, size)
    return sorted(found.values(), key=lambda item: [natural_key(part) for part in item.place.parts])


def looks_like_video(path: Place) -> bool:
    """Whether the first bytes of a file are those of a video, or its name is."""
    suffix = path.suffix.lower()
    if suffix in _OTHER_SUFFIXES or suffix in IMAGE_SUFFIXES:
        return False
    if suffix in _VIDEO_SUFFIXES:
        return True
    try:
        with path.open("rb") as file:
            return _starts_a_video(file.read(_FIRST_BYTES))
    except (OSError, ValueError):  # ValueError: some stores cannot read a part of an empty file
        return False  # nothing says that it is a video


def _common_base(roots: Sequence[Place]) -> Place:
    """Return the common folder that the places of videos are relative to.

    Raises:
        InputError: the arguments are of several stores.
    """
    if len(roots) == 1:
        return roots[0] if roots[0].is_dir() else roots[0].parent
    stores = {"" if isinstance(root, Path) else root.protocol: root for root in roots}
    if len(stores) > 1:
        first, second, *_ = stores.values()
        raise InputError(f"{first} and {second} have no common tree; do them in batches of their own")
    base = roots[0].parent
    while not all(base == root.parent or base in root.parents for root in roots):
        base = base.parent
    return base


def _search(root: Place, closed: Collection[str]) -> Iterator[tuple[Place, int]]:
    """Videos below a folder, each with its bytes; links to folders are followed, once each.

    A folder that links lead to, too, has its own place; links come last, in order, so that each run finds the same.
    """
    pending, linked, seen = [root], deque[Place](), set[object]()
    while pending or linked:
        folder = pending.pop() if pending else linked.popleft()
        try:
            identity = _identity(folder)
            entries = entries_of(folder)
        except OSError:
            yield folder, 0  # it may hold videos: opening it will say why they cannot be read
            continue
        if identity in seen:
            continue
        seen.add(identity)
        if folder != root and any(entry.name == STATE for entry in entries):
            continue
        entries = [entry for entry in entries if not entry.name.startswith(".")]
        files = [entry for entry in entries if entry.is_file() or _is_broken_link(entry)]
        videos = [entry for entry in files if looks_like_video(entry)]
        images = [entry for entry in files if is_image(entry.name) and entry.is_file()]
        yield from ((entry, _size(entry)) for entry in videos)
        if not videos and len(images) >= _FEWEST_IMAGES:
            yield folder, sum(map(_size, images))
        for entry in entries:
            if entry.is_dir() and _key(entry) not in closed:
                (linked if isinstance(entry, Path) and entry.is_symlink() else pending).append(entry)


def _identity(folder: Place) -> object:
    """Return a key that is equal for two paths of the same folder."""
    if not isinstance(folder, Path):
        return folder.path
    status = folder.stat()
    return status.st_dev, status.st_ino


def _is_broken_link(entry: Place) -> bool:
    return isinstance(entry, Path) and entry.is_symlink() and not entry.exists()


def _size(entry: Place) -> int:
    try:
        return entry.stat().st_size
    except OSError:
        return 0  # it vanished a moment ago


def _key(place: Place) -> str:
    return os.path.abspath(place) if isinstance(place, Path) else str(place)


def _matches(place: PurePosixPath, globs: Sequence[str]) -> bool:
    return not globs or any(
        fnmatchcase((str(place) if "/" in glob else place.name).casefold(), glob.casefold()) for glob in globs
    )


def _starts_a_video(start: bytes) -> bool:
    if start.startswith(_SIGNATURES):
        return True
    if start[4:8] == b"ftyp":
        return start[8:12] not in _OTHER_BRANDS
    if start[4:8] in (b"moov", b"mdat", b"wide", b"free", b"skip"):  # QuickTime before there was ftyp
        return True
    if start[:4] == b"RIFF":
        return start[8:11] == b"AVI"
    if start[:4] == b"OggS":
        return b"theora" in start
    return any(
        len(start) > offset + 3 * length and all(start[offset + i * length] == 0x47 for i in range(4))
        for offset, length in _TS_PACKETS
    )
