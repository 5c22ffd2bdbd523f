"""Find the videos among files and folders: by what is in them, not by their names alone."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

from vp3d_cli.errors import InputError
from vp3d_cli.io.atomic import IMAGE_SUFFIXES, is_image, natural_key
from vp3d_cli.jobs.remote import Place, Url, facts_of, reaching

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
_SNIFFED_BYTES = 1024
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
    """A video to do.

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
    """The videos that some files and folders stand for, in natural order (``take2`` before ``take10``).

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
        if not argument.exists():
            raise InputError(f"no such file or folder: {argument}")
    urls = [argument for argument in arguments if isinstance(argument, Url)]
    paths = [argument for argument in arguments if isinstance(argument, Path)]
    if urls and paths:
        raise InputError(f"{urls[0]} and {paths[0]} have no common tree; do URLs and paths in batches of their own")
    if urls:
        with reaching(urls[0]):
            return _find_afar(urls, globs, [folder for folder in exclude if isinstance(folder, Url)])
    return _find_here(paths, globs, [folder for folder in exclude if isinstance(folder, Path)])


def _find_here(arguments: Sequence[Path], globs: Sequence[str], exclude: Collection[Path]) -> list[BatchInput]:
    roots = [Path(os.path.abspath(argument)) for argument in arguments]
    base = _common_base(roots)
    closed = {Path(os.path.abspath(folder)) for folder in exclude} - set(roots)
    found: dict[Path, BatchInput] = {}
    for root in roots:
        for path, size in _search(root, closed) if root.is_dir() else [(root, root.stat().st_size)]:
            place = path.relative_to(base) if path != base else Path(path.name or "video")
            item = BatchInput(path, PurePosixPath(place.as_posix()), size)
            if path == root or _matches(item.place, globs):
                found[path] = item
    return _in_order(found.values())


def looks_like_video(path: Place) -> bool:
    """Whether the first bytes of a file are those of a video, or its name is."""
    suffix = path.suffix.lower()
    if suffix in _OTHER_SUFFIXES or suffix in IMAGE_SUFFIXES:
        return False
    if suffix in _VIDEO_SUFFIXES:
        return True
    try:
        if isinstance(path, Url):
            start = bytes(path.store.cat_file(path.path, start=0, end=_SNIFFED_BYTES))
        else:
            with path.open("rb") as file:
                start = file.read(_SNIFFED_BYTES)
    except (OSError, ValueError):  # ValueError: some stores cannot read a part of an empty file
        return False  # nothing says that it is a video
    return _starts_a_video(start)


def images_of(url: Url) -> list[tuple[Url, int, str]]:
    """The images of a folder elsewhere, by name (of one without images all files): address, bytes, mark."""
    files = [
        (url / PurePosixPath(info["name"]).name, *facts_of(info)) for info in url.entries() if info["type"] == "file"
    ]
    images = [file for file in files if is_image(file[0].name)]
    return sorted(images or files, key=lambda file: file[0].name)


def _find_afar(arguments: Sequence[Url], globs: Sequence[str], exclude: Collection[Url]) -> list[BatchInput]:
    if len({argument.text.partition("://")[0] for argument in arguments}) > 1:
        raise InputError(f"{arguments[0]} and {arguments[1]} are of two stores; do them in batches of their own")
    paths = [PurePosixPath(argument.path) for argument in arguments]
    folders = [argument.is_dir() for argument in arguments]
    if len(paths) == 1:
        base = paths[0] if folders[0] else paths[0].parent
    else:
        base = PurePosixPath(os.path.commonpath([path.parent for path in paths]))
    found: dict[PurePosixPath, BatchInput] = {}
    for argument, path, is_folder in zip(arguments, paths, folders, strict=True):
        closed = {PurePosixPath(folder.path) for folder in exclude} - {path}
        for video, size in _search_afar(argument, closed) if is_folder else [(path, argument.facts()[0])]:
            place = video.relative_to(base) if video != base else PurePosixPath(video.name or "video")
            if video == path or _matches(place, globs):
                inside = video.relative_to(path).as_posix()
                found[video] = BatchInput(argument if inside == "." else argument / inside, place, size)
    return _in_order(found.values())


def _search_afar(root: Url, closed: Collection[PurePosixPath]) -> Iterator[tuple[PurePosixPath, int]]:
    """Videos below a folder of a store, each with its bytes."""
    root.store.invalidate_cache()
    pending = [(root, PurePosixPath(root.path))]
    while pending:
        folder, path = pending.pop()
        entries = [(PurePosixPath(info["name"]).name, info) for info in folder.entries()]
        if folder != root and any(name == STATE for name, _ in entries):
            continue
        entries = [(name, info) for name, info in entries if not _hidden(name)]
        files = [(name, info) for name, info in entries if info["type"] == "file"]
        videos = [(name, info) for name, info in files if looks_like_video(folder / name)]
        images = [info for name, info in files if is_image(name)]
        yield from ((path / name, facts_of(info)[0]) for name, info in videos)
        if not videos and len(images) >= _FEWEST_IMAGES:
            yield path, sum(facts_of(info)[0] for info in images)
        folders = [name for name, info in entries if info["type"] == "directory" and path / name not in closed]
        pending += [(folder / name, path / name) for name in folders]


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


def _in_order(videos: Iterable[BatchInput]) -> list[BatchInput]:
    return sorted(videos, key=lambda video: [natural_key(part) for part in video.place.parts])


def _common_base(roots: Sequence[Path]) -> Path:
    if len(roots) == 1:
        return roots[0] if roots[0].is_dir() else roots[0].parent
    return Path(os.path.commonpath([root.parent for root in roots]))


def _search(root: Path, closed: Collection[Path]) -> Iterator[tuple[Path, int]]:
    """Videos below a folder, each with its bytes; links to folders are followed, once each.

    A folder that links lead to, too, has its own place; links come last, in order, so that each run finds the same.
    """
    pending, linked, seen = [root], deque[Path](), set[tuple[int, int]]()
    while pending or linked:
        folder = pending.pop() if pending else linked.popleft()
        try:
            status = folder.stat()
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError:
            yield folder, 0  # it may hold videos: whoever opens it will say why they cannot be read
            continue
        if (status.st_dev, status.st_ino) in seen:
            continue
        seen.add((status.st_dev, status.st_ino))
        if folder != root and any(entry.name == STATE for entry in entries):
            continue
        entries = [entry for entry in entries if not _hidden(entry.name)]
        files = [entry for entry in entries if entry.is_file() or _leads_nowhere(entry)]
        videos = [entry for entry in files if looks_like_video(Path(entry.path))]
        images = [entry for entry in files if is_image(entry.name) and entry.is_file()]
        yield from ((Path(entry.path), _size(entry)) for entry in videos)
        if not videos and len(images) >= _FEWEST_IMAGES:
            yield folder, sum(map(_size, images))
        for entry in entries:
            if entry.is_dir() and Path(entry.path) not in closed:
                (linked if entry.is_symlink() else pending).append(Path(entry.path))


def _leads_nowhere(entry: os.DirEntry[str]) -> bool:
    return entry.is_symlink() and not os.path.exists(entry.path)


def _size(entry: os.DirEntry[str]) -> int:
    try:
        return entry.stat().st_size
    except OSError:
        return 0  # it vanished a moment ago


def _matches(place: PurePosixPath, globs: Sequence[str]) -> bool:
    return not globs or any(
        fnmatchcase((str(place) if "/" in glob else place.name).casefold(), glob.casefold()) for glob in globs
    )


def _hidden(name: str) -> bool:
    return name.startswith(".")
