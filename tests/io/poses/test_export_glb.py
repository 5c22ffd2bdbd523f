"""GLB: the Khronos validator's word, and the joints and bodies that a reader of its own finds in it."""

from __future__ import annotations

import json
import shutil
import struct
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from rigs import rig_positions, rigged_pose
from scipy.spatial.transform import Rotation

from vp3d_cli.io.poses import ExportOptions, export_pose
from vp3d_cli.io.poses.capsules import body_mesh
from vp3d_cli.pose import Pose3D
from vp3d_cli.skeletons import H36M17

Array = NDArray[Any]
TO_Y_UP = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])
ROOT = Path(__file__).resolve().parents[3]
VALIDATE = """
const validator = require('gltf-validator'), fs = require('fs');
validator.validateBytes(new Uint8Array(fs.readFileSync(process.argv[1])))
  .then(report => console.log(JSON.stringify(report.issues)));
"""


class Glb:
    """A small reader of glTF binaries, by the specification."""

    def __init__(self, path: Path) -> None:
        data = path.read_bytes()
        magic, version, length = struct.unpack_from("<4sII", data)
        assert (magic, version, length) == (b"glTF", 2, len(data))
        json_length, kind = struct.unpack_from("<I4s", data, 12)
        assert kind == b"JSON"
        self.document: dict[str, Any] = json.loads(data[20 : 20 + json_length])
        at = 20 + json_length
        binary_length, kind = struct.unpack_from("<I4s", data, at)
        assert kind == b"BIN\0"
        self.binary = data[at + 8 : at + 8 + binary_length]

    def array(self, accessor: int) -> Array:
        entry = self.document["accessors"][accessor]
        view = self.document["bufferViews"][entry["bufferView"]]
        dtype = {5126: np.float32, 5121: np.uint8, 5125: np.uint32}[entry["componentType"]]
        width = {"SCALAR": 1, "VEC3": 3, "VEC4": 4, "MAT4": 16}[entry["type"]]
        values = np.frombuffer(self.binary, dtype, entry["count"] * width, view["byteOffset"])
        return values.reshape(-1, width) if width > 1 else values

    def globals_at(self, frame: int) -> dict[int, Array]:
        """4x4 matrix of each node at a key frame."""
        nodes = self.document["nodes"]
        places = {i: np.array(node.get("translation", (0, 0, 0))) for i, node in enumerate(nodes)}
        turns = {i: np.eye(3) for i in range(len(nodes))}
        (animation,) = self.document["animations"]
        for channel in animation["channels"]:
            value = self.array(animation["samplers"][channel["sampler"]]["output"])[frame]
            node = channel["target"]["node"]
            if channel["target"]["path"] == "translation":
                places[node] = value
            else:
                turns[node] = Rotation.from_quat(value).as_matrix()  # (x, y, z, w)
        result: dict[int, Array] = {}

        def visit(node: int, above: Array) -> None:
            local = np.eye(4)
            local[:3, :3], local[:3, 3] = turns[node], places[node]
            result[node] = above @ local
            for child in nodes[node].get("children", ()):
                visit(child, result[node])

        for node in self.document["scenes"][0]["nodes"]:
            visit(node, np.eye(4))
        return result

    def skinned(self, mesh_node: int, frame: int) -> Array:
        """Vertices of a skinned mesh at a key frame, in the scene."""
        node = self.document["nodes"][mesh_node]
        skin = self.document["skins"][node["skin"]]
        (primitive,) = self.document["meshes"][node["mesh"]]["primitives"]
        attributes = {name: self.array(index) for name, index in primitive["attributes"].items()}
        inverse = self.array(skin["inverseBindMatrices"]).reshape(-1, 4, 4).swapaxes(1, 2)  # column by column
        matrices = np.stack([self.globals_at(frame)[joint] for joint in skin["joints"]]) @ inverse
        points = np.concatenate([attributes["POSITION"], np.ones((len(attributes["POSITION"]), 1))], axis=1)
        blended = np.einsum("vk,vkij->vij", attributes["WEIGHTS_0"], matrices[attributes["JOINTS_0"]])
        return np.asarray((blended @ points[..., None])[:, :3, 0])


def written(pose: Pose3D, folder: Path, **options: Any) -> Path:
    files, _ = export_pose(pose, folder / "walk.glb", options=ExportOptions(**options))
    assert files == [folder / "walk.glb"]
    return files[0]


def validator() -> list[str]:
    """How to run the Khronos validator: ``npm install -g gltf-validator``, or in the project's root."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        pytest.skip("node is not installed")
    for folder in (ROOT / "node_modules", Path(subprocess.check_output([npm, "root", "-g"], text=True).strip())):
        if (folder / "gltf-validator").is_dir():
            return [node, "-e", VALIDATE.replace("'gltf-validator'", json.dumps(str(folder / "gltf-validator")))]
    pytest.skip("the npm package gltf-validator is not installed")


@pytest.mark.parametrize(
    ("people", "frames", "options"),
    [
        (2, 40, {}),
        (1, 1, {}),
        (1, 20, {"space": "camera", "names": "mixamo"}),
        (1, 9, {"fps": 500.0, "in_place": True}),
    ],
)
def test_valid_without_errors_or_warnings(tmp_path: Path, people: int, frames: int, options: dict[str, Any]) -> None:
    command = validator()
    path = written(rigged_pose(people=people, frames=frames), tmp_path, **options)
    issues = json.loads(subprocess.check_output([*command, str(path)], text=True))
    assert issues["numErrors"] == issues["numWarnings"] == issues["numInfos"] == 0, issues["messages"]


def test_joints_of_everyone_move_as_their_rigs(tmp_path: Path) -> None:
    pose = rigged_pose(people=2, frames=30)
    glb = Glb(written(pose, tmp_path))
    for person in range(2):
        wanted = rig_positions(pose, person) @ TO_Y_UP.T
        joints = glb.document["skins"][person]["joints"]
        names = [glb.document["nodes"][joint]["name"] for joint in joints]
        assert names == [f"person {person + 1} {joint}" for joint in H36M17.joints]
        for frame in (0, 13, 29):
            found = glb.globals_at(frame)
            places = np.array([found[joint][:3, 3] for joint in joints])
            assert np.abs(places - wanted[frame]).max() < 1e-4
    times = glb.array(glb.document["animations"][0]["samplers"][0]["input"])
    np.testing.assert_allclose(times, np.arange(30) / 30, atol=1e-6)


def test_bodies_follow_their_bones(tmp_path: Path) -> None:
    pose = rigged_pose(people=1, frames=30)
    glb = Glb(written(pose, tmp_path))
    (mesh_node,) = (i for i, node in enumerate(glb.document["nodes"]) if "mesh" in node)
    for frame in (0, 20):
        joints = rig_positions(pose, 0)[frame] @ TO_Y_UP.T
        body = glb.skinned(mesh_node, frame)
        distance = np.min([_to_segment(body, joints[parent], joints[joint]) for parent, joint in H36M17.bones], axis=0)
        assert distance.max() < 0.12  # the thickest capsule is 11 cm
        assert (np.linalg.norm(body[:, None] - joints, axis=-1).min(axis=0) < 0.12).all()


def _to_segment(points: Array, start: Array, stop: Array) -> Array:
    line = stop - start
    share = np.clip((points - start) @ line / (line @ line), 0, 1)
    return np.linalg.norm(points - start - share[:, None] * line, axis=1)


def test_capsules_are_closed_and_face_outwards() -> None:
    offsets = np.zeros((2, 3))
    offsets[1] = [0.1, 0.5, -0.2]
    body = body_mesh(["hip", "spine"], (-1, 0), offsets)
    a, b, c = (body.positions[body.triangles[:, i]].astype(np.float64) for i in range(3))
    normals = np.cross(b - a, c - a)
    area = np.linalg.norm(normals, axis=1)
    assert (area > 1e-9).all()
    middle = (a + b + c) / 3
    line = offsets[1]
    nearest = np.clip(middle @ line / (line @ line), 0, 1)[:, None] * line
    assert ((normals * (middle - nearest)).sum(axis=1) > 0).all()
    volume = float((a * np.cross(b, c)).sum() / 6)
    length, radius = float(np.linalg.norm(line)), 0.10
    assert volume == pytest.approx(np.pi * radius**2 * (length + 4 / 3 * radius), rel=0.07)
    np.testing.assert_allclose(np.linalg.norm(body.normals, axis=1), 1, atol=1e-6)


def test_somebody_out_of_view_is_held(tmp_path: Path) -> None:
    pose = rigged_pose(people=2, gaps=True)
    files, warnings = export_pose(pose, tmp_path / "walk.glb")
    assert "person 2: 11 of 40 frames" in warnings[0]
    glb = Glb(files[0])
    for sampler in glb.document["animations"][0]["samplers"]:
        assert np.isfinite(glb.array(sampler["output"])).all()
