"""DeepLabCut's predictions for a video, ``.csv`` or ``.h5``, of one individual or several.

Columns have a header of three rows (scorer, bodyparts, coords: x, y, likelihood), or four where there are individuals;
a row is a frame. Body parts are the user's own, so a joint map says which of them are COCO keypoints: a TOML or JSON
file such as ``hip_l = "left_hip"`` (a table ``joint_map`` in it is taken too). None is needed if the body parts bear
COCO's names.

An ``.h5`` file is a table written by pandas, whose column names are pickled: they are read by h5py (extra
``deeplabcut``) and vp3d's own unpickler, for ``pandas.read_hdf`` runs whatever a file asks for.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vp3d_cli.errors import InputError, MissingDependencyError
from vp3d_cli.io.keypoints.base import KeypointReader
from vp3d_cli.io.keypoints.instances import Instances, ReaderOptions, instances_from_tracks
from vp3d_cli.io.keypoints.layouts import Layout, joint_name
from vp3d_cli.io.keypoints.source import Source, float_or_nan
from vp3d_cli.io.restricted_pickle import loads_pickle
from vp3d_cli.skeletons import COCO17
from vp3d_cli.types import DoubleArray

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Column = tuple[str, str, str]  # individual ("" where there is one), body part, coordinate


def matches(source: Source) -> bool:
    """Whether this is a table of DeepLabCut."""
    if source.kind == "hdf5":
        return True
    return bool(source.rows) and source.rows[0][0].strip() == "scorer"


def read(source: Source, options: ReaderOptions) -> Instances:
    """Read a table of predictions.

    Raises:
        InputError: the table is broken, or the joint map is missing or does not fit it.
        MissingDependencyError: an ``.h5`` file without h5py.
    """
    columns, table = _read_h5(source) if source.kind == "hdf5" else _read_csv(source)
    place = {column: i for i, column in enumerate(columns)}
    parts = list(dict.fromkeys(part for _, part, _ in columns))
    wanted = _joint_map(source, parts, options.joint_map)
    # Body parts that belong to no individual are listed under "single"; none of them is a joint of anyone.
    people = [
        individual
        for individual in dict.fromkeys(individual for individual, _, _ in columns)
        if all((individual, part, "x") in place and (individual, part, "y") in place for part in wanted)
    ]
    if not people:
        raise InputError(f"{source}: no individual has x and y of all of {', '.join(wanted)}; check the joint map")

    def values(axis: str) -> DoubleArray:
        picked = [[table[:, place[person, part, axis]] for part in wanted] for person in people]
        return np.moveaxis(np.array(picked), -1, 1)  # (P, T, J)

    has_scores = all((person, part, "likelihood") in place for person in people for part in wanted)
    return instances_from_tracks(
        np.stack([values("x"), values("y")], axis=-1),
        values("likelihood") if has_scores else None,
        Layout("joint map", f"{len(wanted)} body parts of DeepLabCut", tuple(wanted.values())),
        range(1, len(people) + 1),
    )


def _read_csv(source: Source) -> tuple[list[Column], DoubleArray]:
    header: dict[str, list[str]] = {}
    for row in source.rows[:4]:
        if row[0].strip() in ("scorer", "individuals", "bodyparts", "coords"):
            header[row[0].strip()] = [cell.strip() for cell in row[1:]]
    if "bodyparts" not in header or "coords" not in header:
        raise InputError(f"{source}: lacks the header rows bodyparts and coords of DeepLabCut; export it again")
    parts, coords = header["bodyparts"], header["coords"]
    individuals = header.get("individuals", [""] * len(parts))
    columns = list(zip(individuals, parts, coords, strict=False))
    rows = source.rows[len(header) :]
    if rows and not rows[0][0].strip().isdigit():
        raise InputError(f"{source}: holds labelled images, not a video; give the predictions of analyze_videos")
    table = np.full((len(rows), len(columns)), np.nan)
    for i, row in enumerate(rows):
        if len(row) != len(columns) + 1:
            raise InputError(
                f"{source}: frame {i} has {len(row) - 1} values, the header {len(columns)}; was it cut short?"
            )
        try:
            table[i] = [float_or_nan(cell) for cell in row[1:]]
        except ValueError as error:
            raise InputError(f"{source}: frame {i}: {error}; export it again") from error
    return columns, table


def _read_h5(source: Source) -> tuple[list[Column], DoubleArray]:
    try:
        import h5py
    except ImportError as error:
        raise MissingDependencyError(
            f"{source}: reading DeepLabCut's .h5 needs h5py: pip install 'vp3d[deeplabcut]', or give the .csv file"
        ) from error
    try:
        with h5py.File(source.path, "r") as file:
            frames = [group for group in file.values() if "pandas_type" in group.attrs]
            if len(frames) != 1:
                raise InputError(f"{source}: holds {len(frames)} pandas tables, not one; export it as .csv")
            kind = _text(frames[0].attrs["pandas_type"])
            names, table = _table(source, frames[0]) if kind == "frame_table" else _fixed(frames[0])
    except (OSError, KeyError, ValueError, TypeError, AttributeError, IndexError) as error:
        raise InputError(f"{source}: not a table of DeepLabCut ({error}); export it as .csv") from error
    columns: list[Column] = []
    for name in names:
        if len(name) not in (3, 4) or not all(isinstance(part, str) for part in name):
            raise InputError(f"{source}: column {name!r} is not of DeepLabCut; export it as .csv")
        columns.append((name[1] if len(name) == 4 else "", name[-2], name[-1]))
    return columns, table


def _table(source: Source, group: Any) -> tuple[list[tuple[str, ...]], DoubleArray]:
    """Read the pandas HDF5 format "table".

    Rows hold blocks of values; the column names of each block are pickled in an attribute.
    """
    rows = group["table"]
    names: list[tuple[str, ...]] = []
    blocks = []
    for field in rows.dtype.names:
        if field.startswith("values_block_"):
            pickled = np.bytes_(rows.attrs[f"{field}_kind"])
            listed = loads_pickle(bytes(pickled), f"{source}: column names")
            names += [tuple(name) for name in listed]
            blocks.append(np.asarray(rows[field], np.float64).reshape(len(rows), len(listed)))
    order = np.argsort(np.asarray(rows["index"]), kind="stable")
    return names, np.concatenate(blocks, axis=1)[order]


def _fixed(group: Any) -> tuple[list[tuple[str, ...]], DoubleArray]:
    """pandas' format "fixed": blocks of values, column names as levels and labels."""
    names: list[tuple[str, ...]] = []
    blocks = []
    for block in range(int(group.attrs["nblocks"])):
        prefix = f"block{block}_items"
        levels = []
        for level in range(int(group.attrs[f"{prefix}_nlevels"])):
            words = [_text(word) for word in group[f"{prefix}_level{level}"][()]]
            levels.append([words[label] for label in group[f"{prefix}_label{level}"][()].tolist()])
        names += list(zip(*levels, strict=True))
        blocks.append(np.asarray(group[f"block{block}_values"], np.float64))
    return names, np.concatenate(blocks, axis=1)


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _joint_map(source: Source, parts: Sequence[str], given: Mapping[str, str] | Path | None) -> dict[str, str]:
    """Body part -> COCO keypoint."""
    if given is None:
        own = {part: joint_name(part) for part in parts if joint_name(part) in COCO17.joints}
        if len(own) < len(COCO17.joints) - len(_HEAD):
            raise InputError(
                f"{source}: body parts are {', '.join(parts)}; say which are COCO keypoints with --joint-map FILE, "
                f'lines of TOML such as hip_l = "left_hip" (keypoints: {", ".join(COCO17.joints)})'
            )
        return own
    listed = _load_joint_map(given) if isinstance(given, Path) else dict(given)
    unknown = [joint for joint in listed.values() if joint not in COCO17.joints]
    absent = [part for part in listed if part not in parts]
    if unknown:
        raise InputError(f"joint map: {', '.join(unknown)}: no COCO keypoints; these are {', '.join(COCO17.joints)}")
    if absent:
        raise InputError(f"joint map: {source} has no body part {', '.join(absent)}; it has {', '.join(parts)}")
    if len(set(listed.values())) < len(listed) or not listed:
        raise InputError("joint map: give each COCO keypoint one body part, and at least one in all")
    return listed


_HEAD = COCO17.joints[:5]  # not every project labels the face


def _load_joint_map(path: Path) -> dict[str, str]:
    try:
        text = path.read_text(encoding="utf-8")
        document = json.loads(text) if text.lstrip().startswith("{") else tomllib.loads(text)
    except (OSError, ValueError, RecursionError) as error:  # both decoders raise kinds of ValueError
        raise InputError(f"{path}: not a joint map in TOML or JSON ({error})") from error
    listed = document.get("joint_map", document)
    if not isinstance(listed, dict) or not all(isinstance(joint, str) for joint in listed.values()):
        raise InputError(f'{path}: a joint map has lines such as hip_l = "left_hip", body part = COCO keypoint')
    return {str(part): joint for part, joint in listed.items()}


READER = KeypointReader("deeplabcut", "DeepLabCut's predictions (.csv, .h5)", matches, read)
