"""Reader of ASF/AMC motion capture (Acclaim): skeleton and motions in separate files.

Each bone has a direction and a length in the zero pose of the skeleton, and axes for its rotations:
``L = C M C^-1``, with C from the bone's ``axis`` and M from the frame's angles, both composed first axis first.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vp3d_cli.errors import InputError
from vp3d_cli.train.mocap.recording import AXES, Lines, Recording, axis_rotation
from vp3d_cli.types import DoubleArray

# AMC files usually lack a frame rate; those of the CMU database have 120 frames per second.
DEFAULT_FPS = 120.0
_DOFS = ("rx", "ry", "rz")


@dataclass
class _Bone:
    name: str
    direction: DoubleArray
    length: float
    axes: DoubleArray  # C, (3, 3)
    order: str  # in which axes the angles are composed, such as "xyz"
    dofs: list[str]
    parent: str = ""


@dataclass
class _Skeleton:
    root_dofs: list[str]
    root_axes: DoubleArray
    root_order: str
    degrees: bool
    bones: dict[str, _Bone]  # in an order in which parents come first


def read_amc(asf: Path, amc: Path) -> Recording:
    """Read an AMC motion and its ASF skeleton.

    A node with the name of a bone is the joint at the start of that bone; ``NAME_end`` is the end of an outermost bone.

    Raises:
        InputError: the file is unreadable or truncated, its hierarchy is broken, or a value is not finite; the message
            has the line number.
    """
    skeleton = _read_skeleton(Lines(asf, "#"))
    fps, frames = _read_frames(amc, skeleton)
    return _pose(amc, fps, skeleton, frames)


def find_asf(amc: Path) -> Path:
    """Find the skeleton of a motion: the file whose name is a prefix of it, or the only one.

    Raises:
        InputError: there is no skeleton, or several possible ones.
    """
    skeletons = sorted(path for path in amc.parent.iterdir() if path.suffix.lower() == ".asf")
    fitting = [path for path in skeletons if amc.stem.lower().startswith(path.stem.lower())]
    if fitting:
        return max(fitting, key=lambda path: len(path.stem))
    if len(skeletons) == 1:
        return skeletons[0]
    found = ", ".join(path.name for path in skeletons) or "no .asf file"
    raise InputError(f"{amc}: cannot tell its skeleton; beside it is {found}; name the .asf like the start of the .amc")


def _read_skeleton(lines: Lines) -> _Skeleton:
    degrees = True
    root: dict[str, list[str]] = {}
    bones: dict[str, _Bone] = {}
    parents: dict[str, str] | None = None
    section = ""
    for number, line in lines:
        if line.startswith(":"):
            section = line[1:].split()[0].lower() if line[1:].split() else ""
            if section == "bonedata":
                bones = _read_bones(lines, degrees)
            elif section == "hierarchy":
                parents = _read_parents(lines, bones)
        elif section == "units" and line.lower().startswith("angle"):
            degrees = line.lower().split()[1:2] != ["rad"]
        elif section == "root":
            words = line.lower().split()
            root[words[0]] = words[1:]
            if words[0] in ("orientation", "position"):
                lines.numbers(number, words[1:], 3, words[0])
    if not bones or parents is None:
        raise lines.error(None, "the file ends without :bonedata and :hierarchy; is it an ASF file, or cut off?")
    order = _order(lines, None, "".join(root.get("axis", ["xyz"])))
    angles = [float(word) for word in root.get("orientation", ["0"] * 3)]
    dofs = root.get("order", ["tx", "ty", "tz", "rx", "ry", "rz"])
    if sorted(dofs) != ["rx", "ry", "rz", "tx", "ty", "tz"]:
        raise lines.error(None, f"root order must name tx ty tz rx ry rz, found {' '.join(dofs)}")
    sorted_bones = _sort(lines, bones, parents)
    return _Skeleton(dofs, _compose(order, np.array([angles]), degrees)[0], order, degrees, sorted_bones)


def _read_bones(lines: Lines, degrees: bool) -> dict[str, _Bone]:
    bones: dict[str, _Bone] = {}
    while lines.peek().lower().split()[:1] == ["begin"]:
        first, _ = lines.next("begin")
        values: dict[str, tuple[int, list[str]]] = {}
        while True:
            number, line = lines.next("end of a bone")
            words = line.split()
            if words[0].lower() == "end":
                break
            values[words[0].lower()] = (number, words[1:])
        missing = [key for key in ("name", "direction", "length", "axis") if not values.get(key, (0, []))[1]]
        if missing:
            raise lines.error(first, f"a bone without {', '.join(missing)}")
        name = values["name"][1][0]
        number, axis = values["axis"]
        order = _order(lines, number, "".join(axis[3:]) or "xyz")
        angles = lines.numbers(number, axis[:3], 3, "axis")
        direction = np.array(lines.numbers(*values["direction"], 3, "direction"))
        dof_number, dofs = values.get("dof", (0, []))
        dofs = [dof.lower() for dof in dofs]
        strange = [dof for dof in dofs if dof not in _DOFS]
        if strange:
            raise lines.error(dof_number, f"bone {name}: cannot read degrees of freedom {', '.join(strange)}")
        norm = float(np.linalg.norm(direction))
        bones[name] = _Bone(
            name,
            direction / norm if norm > 0 else direction,
            lines.numbers(*values["length"], 1, "length")[0],
            _compose(order, np.array([angles]), degrees)[0],
            order,
            dofs,
        )
    return bones


def _read_parents(lines: Lines, bones: dict[str, _Bone]) -> dict[str, str]:
    number, line = lines.next("begin of the hierarchy")
    if line.lower() != "begin":
        raise lines.error(number, f"the hierarchy must start with 'begin', found {line[:30]!r}")
    parents: dict[str, str] = {}
    while True:
        number, line = lines.next("end of the hierarchy")
        if line.lower() == "end":
            return parents
        parent, *children = line.split()
        for name in (parent, *children):
            if name not in bones and name != "root":
                raise lines.error(number, f"the hierarchy names {name!r}, which is not a bone")
        for child in children:
            if child in parents:
                raise lines.error(number, f"bone {child} has two parents")
            parents[child] = parent


def _sort(lines: Lines, bones: dict[str, _Bone], parents: dict[str, str]) -> dict[str, _Bone]:
    """Sort bones so that parents come before children; unconnected bones are an error."""
    children: dict[str, list[str]] = {}
    for name in bones:
        children.setdefault(parents.get(name, ""), []).append(name)
    done: dict[str, _Bone] = {}
    ready = children.get("root", [])
    while ready:
        for name in ready:
            done[name] = bones[name]
            done[name].parent = parents[name]
        ready = [child for name in ready for child in children.get(name, [])]
    left = [name for name in bones if name not in done]
    if left:
        raise lines.error(None, f"bones that are not connected to the root: {', '.join(left[:5])}")
    return done


def _order(lines: Lines, number: int | None, text: str) -> str:
    order = text.lower()
    if sorted(order) != list(AXES):
        raise lines.error(number, f"axis order must be some order of XYZ, found {text!r}")
    return order


def _compose(order: str, angles: DoubleArray, degrees: bool) -> DoubleArray:
    """(F, 3, 3) rotations by (F, 3) angles about the fixed axes x, y, z, in the given order."""
    radians = np.radians(angles) if degrees else angles
    out = np.tile(np.eye(3), (len(angles), 1, 1))
    for axis in order:
        out = axis_rotation(axis, radians[:, AXES.index(axis)]) @ out
    return out


def _read_frames(amc: Path, skeleton: _Skeleton) -> tuple[float, dict[str, DoubleArray]]:
    """Read frames per second, and the values (F, degrees of freedom) of each moving bone."""
    lines = Lines(amc, "#")
    wanted = {"root": 6, **{bone.name: len(bone.dofs) for bone in skeleton.bones.values() if bone.dofs}}
    columns: dict[str, list[list[float]]] = {name: [] for name in wanted}
    fps, frames = DEFAULT_FPS, 0
    for number, line in lines:
        words = line.split()
        if line.startswith(":"):
            if words[0].lower() == ":samples-per-second":
                fps = lines.numbers(number, words[1:], 1, "samples per second")[0]
        elif len(words) == 1 and words[0].isdigit():
            _check_complete(lines, number, columns, frames)
            frames += 1
        elif not frames:
            raise lines.error(number, f"the number of a frame must come first, found {line[:30]!r}")
        elif words[0] not in wanted:
            raise lines.error(number, f"the skeleton has no moving bone {words[0]!r}")
        elif len(columns[words[0]]) != frames - 1:
            raise lines.error(
                number, f"bone {words[0]} is given twice in frame {frames}, or is missing in the frame before"
            )
        else:
            columns[words[0]].append(lines.numbers(number, words[1:], wanted[words[0]], f"bone {words[0]}"))
    if not frames:
        raise lines.error(None, "there are no frames; is it an AMC file?")
    _check_complete(lines, None, columns, frames)
    if not fps > 0:
        raise lines.error(None, f"samples per second must be positive, got {fps:g}")
    return fps, {name: np.array(values) for name, values in columns.items()}


def _check_complete(lines: Lines, number: int | None, columns: dict[str, list[list[float]]], frames: int) -> None:
    lacking = [name for name, values in columns.items() if len(values) < frames]
    if lacking:
        raise lines.error(number, f"frame {frames} lacks {', '.join(lacking[:5])}; is the file cut off?")


def _pose(amc: Path, fps: float, skeleton: _Skeleton, values: dict[str, DoubleArray]) -> Recording:
    """Compute node positions and rotations by forward kinematics."""
    bones = list(skeleton.bones.values())
    index = {"root": 0, **{bone.name: i for i, bone in enumerate(bones, start=1)}}
    inner = {bone.parent for bone in bones}
    leaves = [bone for bone in bones if bone.name not in inner]
    names = ("root", *(bone.name for bone in bones), *(f"{bone.name}_end" for bone in leaves))
    parents = (-1, *(index[bone.parent] for bone in bones), *(index[bone.name] for bone in leaves))
    frames = len(values["root"])

    angles = _angles(skeleton.root_dofs, values["root"])
    moved = np.stack([values["root"][:, skeleton.root_dofs.index(f"t{axis}")] for axis in AXES], axis=1)
    axes = skeleton.root_axes
    rotations = np.zeros((frames, len(names), 3, 3))
    positions = np.zeros((frames, len(names), 3))
    rotations[:, 0] = axes @ _compose(skeleton.root_order, angles, skeleton.degrees) @ axes.T
    positions[:, 0] = moved
    ends = {"root": moved}
    for i, bone in enumerate(bones, start=1):
        turn = _compose(bone.order, _angles(bone.dofs, values.get(bone.name, np.zeros((frames, 0)))), skeleton.degrees)
        rotations[:, i] = rotations[:, index[bone.parent]] @ bone.axes @ turn @ bone.axes.T
        positions[:, i] = ends[bone.parent]
        ends[bone.name] = positions[:, i] + rotations[:, i] @ (bone.direction * bone.length)
    for i, bone in enumerate(leaves, start=1 + len(bones)):
        positions[:, i] = ends[bone.name]
        rotations[:, i] = rotations[:, index[bone.name]]
    return Recording(amc, fps, names, parents, positions, rotations)


def _angles(dofs: list[str], values: DoubleArray) -> DoubleArray:
    """(F, 3) angles about x, y, z; 0 for missing degrees of freedom."""
    columns = [values[:, dofs.index(dof)] if dof in dofs else np.zeros(len(values)) for dof in _DOFS]
    return np.stack(columns, axis=1)
