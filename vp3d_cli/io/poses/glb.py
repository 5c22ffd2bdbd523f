"""glTF 2.0 binary (GLB): a skeleton, a skinned capsule mesh and an animation per person.

Units are metres; y is up.

Opens in Blender, Unity, Unreal, three.js, Windows 3D Viewer and macOS through converters. Specification: Khronos Group,
glTF 2.0, sections 3.7 (meshes, skins), 3.11 (animations) and 4 (GLB).
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vp3d_cli.io.atomic import replacing
from vp3d_cli.io.poses.base import DEFAULT_OPTIONS, Exporter, ExportOptions
from vp3d_cli.io.poses.capsules import body_mesh
from vp3d_cli.io.poses.joint_names import renamed
from vp3d_cli.io.poses.motion import Motion, RigMotion, motions_of
from vp3d_cli.kinematics import rest_positions
from vp3d_cli.pose import Pose3D

_FLOAT, _UINT8, _UINT32 = 5126, 5121, 5125
_ARRAY_BUFFER, _ELEMENT_BUFFER = 34962, 34963
_COMPONENTS = {np.dtype(np.float32): _FLOAT, np.dtype(np.uint8): _UINT8, np.dtype(np.uint32): _UINT32}
_MAGIC, _VERSION, _JSON_CHUNK, _BIN_CHUNK = 0x46546C67, 2, 0x4E4F534A, 0x004E4942
# Linear RGB of the people, one after the other; told apart also by those who do not see red and green alike.
_COLOURS = ((0.10, 0.32, 0.75), (0.90, 0.42, 0.05), (0.10, 0.55, 0.35), (0.55, 0.20, 0.60), (0.75, 0.65, 0.10))


def write_glb(pose: Pose3D, path: Path, overwrite: bool = False, options: ExportOptions = DEFAULT_OPTIONS) -> None:
    """Write everyone of a pose into one file.

    Raises:
        InputError: somebody has no rig.
        OutputError: the file exists and ``overwrite`` is not set, or it cannot be written.
    """
    document = _Document()
    motions = motions_of(pose, options)
    times = document.accessor((motions[0].times_s - motions[0].times_s[0]).astype(np.float32), "SCALAR", bounds=True)
    for number, motion in enumerate(motions):
        document.add_person(motion, motion.held_rig(), options, times, _COLOURS[number % len(_COLOURS)])
    with replacing(path, overwrite) as file:
        file.write(document.packed())


class _Document:
    """A glTF document that grows person by person."""

    def __init__(self) -> None:
        self.parts: dict[str, list[Any]] = {
            key: [] for key in ("nodes", "meshes", "skins", "materials", "accessors", "bufferViews")
        }
        self.scene_nodes: list[int] = []
        self.samplers: list[dict[str, Any]] = []
        self.channels: list[dict[str, Any]] = []
        self.data = bytearray()

    def _add(self, kind: str, entry: Mapping[str, Any]) -> int:
        self.parts[kind].append(entry)
        return len(self.parts[kind]) - 1

    def accessor(self, values: NDArray[Any], kind: str, target: int | None = None, bounds: bool = False) -> int:
        """Store an array, (count,) or (count, components), and return the index of its accessor."""
        self.data += b"\0" * (-len(self.data) % 4)
        view: dict[str, Any] = {"buffer": 0, "byteOffset": len(self.data), "byteLength": values.nbytes}
        if target is not None:
            view["target"] = target
        self.data += np.ascontiguousarray(values).tobytes()
        entry: dict[str, Any] = {
            "bufferView": self._add("bufferViews", view),
            "componentType": _COMPONENTS[values.dtype],
            "count": len(values),
            "type": kind,
        }
        if bounds:
            flat = values.reshape(len(values), -1)
            entry["min"], entry["max"] = flat.min(axis=0).tolist(), flat.max(axis=0).tolist()
        return self._add("accessors", entry)

    def add_person(
        self, motion: Motion, rig: RigMotion, options: ExportOptions, times: int, colour: tuple[float, float, float]
    ) -> None:
        """Add one person's skeleton, mesh and animation."""
        label = f"person {motion.person}"
        first = len(self.parts["nodes"])
        root = rig.parents.index(-1)
        quaternions = rig.quaternions().astype(np.float32)[..., [1, 2, 3, 0]]  # glTF: (x, y, z, w)
        quaternions /= np.linalg.norm(quaternions, axis=-1, keepdims=True)
        prefix = f"{label} " if options.names == "vp3d" else ""
        for joint, name in enumerate(renamed(motion.names, options.names)):
            children = [first + child for child, parent in enumerate(rig.parents) if parent == joint]
            place = rig.root[0] if joint == root else rig.offsets[joint]
            node: dict[str, Any] = {"name": prefix + name, "translation": place.tolist()}
            self._add("nodes", {**node, "children": children} if children else node)
        mesh = self._mesh(motion, rig, label, colour)
        self.scene_nodes += [first + root, self._add("nodes", {"name": label, **mesh, "skin": self._skin(rig, first)})]
        self._animate(first + root, "translation", times, self.accessor(rig.root.astype(np.float32), "VEC3"))
        for joint in range(len(rig.parents)):
            if joint in rig.parents:  # the others stay as in the rest pose
                self._animate(first + joint, "rotation", times, self.accessor(quaternions[:, joint], "VEC4"))

    def _mesh(self, motion: Motion, rig: RigMotion, label: str, colour: tuple[float, float, float]) -> dict[str, int]:
        body = body_mesh(motion.names, rig.parents, rig.offsets)
        joints = np.zeros((len(body.joints), 4), np.uint8)
        joints[:, 0] = body.joints
        weights = np.zeros((len(body.joints), 4), np.float32)
        weights[:, 0] = 1
        attributes = {
            "POSITION": self.accessor(body.positions, "VEC3", _ARRAY_BUFFER, bounds=True),
            "NORMAL": self.accessor(body.normals, "VEC3", _ARRAY_BUFFER),
            "JOINTS_0": self.accessor(joints, "VEC4", _ARRAY_BUFFER),
            "WEIGHTS_0": self.accessor(weights, "VEC4", _ARRAY_BUFFER),
        }
        surface = {"baseColorFactor": [*colour, 1.0], "metallicFactor": 0.0, "roughnessFactor": 0.7}
        primitive = {
            "attributes": attributes,
            "indices": self.accessor(body.triangles.ravel(), "SCALAR", _ELEMENT_BUFFER),
            "material": self._add("materials", {"name": label, "pbrMetallicRoughness": surface}),
        }
        return {"mesh": self._add("meshes", {"name": label, "primitives": [primitive]})}

    def _skin(self, rig: RigMotion, first: int) -> int:
        """Add the skin of a rig.

        Inverse bind matrices, in column-major order, are translations: joints of the rest pose are not rotated.
        """
        matrices = np.tile(np.eye(4, dtype=np.float32), (len(rig.parents), 1, 1))
        matrices[:, 3, :3] = -rest_positions(rig.offsets, rig.parents)
        skin = {
            "joints": [first + joint for joint in range(len(rig.parents))],
            "skeleton": first + rig.parents.index(-1),
            "inverseBindMatrices": self.accessor(matrices.reshape(-1, 16), "MAT4"),
        }
        return self._add("skins", skin)

    def _animate(self, node: int, path: str, times: int, values: int) -> None:
        self.samplers.append({"input": times, "output": values, "interpolation": "LINEAR"})
        self.channels.append({"sampler": len(self.samplers) - 1, "target": {"node": node, "path": path}})

    def packed(self) -> bytes:
        """The file: a header, the JSON chunk, the binary chunk."""
        self.data += b"\0" * (-len(self.data) % 4)
        document = {
            "asset": {"version": "2.0", "generator": "vp3d"},
            "scene": 0,
            "scenes": [{"nodes": self.scene_nodes}],
            **self.parts,
            "animations": [{"name": "motion", "samplers": self.samplers, "channels": self.channels}],
            "buffers": [{"byteLength": len(self.data)}],
        }
        text = json.dumps(document, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 4)
        chunks = struct.pack("<II", len(text), _JSON_CHUNK) + text
        chunks += struct.pack("<II", len(self.data), _BIN_CHUNK) + bytes(self.data)
        return struct.pack("<III", _MAGIC, _VERSION, 12 + len(chunks)) + chunks


EXPORTER = Exporter(
    "glb",
    ".glb",
    "skeleton, simple body and animation for Blender, Unity, Unreal and web pages; everyone in one file",
    write_glb,
    needs_rig=True,
    holds_gaps=False,
)
