"""OpenSim: a model with the person's proportions, markers, and inverse kinematics setup.

``walk.osim`` is a model of joints and segments without muscles: bodies, coordinates and their signs as in the model of
Rajagopal et al. 2016, lengths from the rig. ``walk_markers.trc`` has the markers, ``walk_ik.xml`` the setup: open it in
OpenSim (Tools, Inverse Kinematics, Load), or run ``opensim-cmd run-tool walk_ik.xml``. If the package opensim is
installed, inverse kinematics is run at once and ``walk_ik.mot`` has the joint angles.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from xml.sax.saxutils import quoteattr

import numpy as np

from vp3d_cli.errors import InputError, OutputError
from vp3d_cli.io.atomic import check_target, replacing
from vp3d_cli.io.poses.base import DEFAULT_OPTIONS, Exporter, ExportOptions
from vp3d_cli.io.poses.markers import marker_names
from vp3d_cli.io.poses.mot import turn_to_x
from vp3d_cli.io.poses.motion import Motion, RigMotion, motions_of
from vp3d_cli.io.poses.trc import trc_text
from vp3d_cli.pose import Pose3D
from vp3d_cli.types import DoubleArray

# From axes that face +z with y up (our rest pose) to OpenSim's: x forwards, y up, z to the right.
_TO_OPENSIM = np.array([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [-1.0, 0.0, 0.0]])
# Where the skeleton's joint is not a joint of the body, its marker counts less.
_WEIGHTS = {"Spine": 0.3, "NeckNose": 0.1, "Head": 0.1}
# Masses of the segments, kg (de Leva 1996, a man of 70 kg), and a moment of inertia: kinematics needs neither.
_MASSES = {"pelvis": 8.0, "torso": 35.0, "femur": 9.9, "tibia": 4.0, "humerus": 1.9, "radius": 1.6}


_RUN = "import sys, opensim; sys.exit(not opensim.InverseKinematicsTool(sys.argv[1]).run())"


@dataclass(frozen=True)
class _Axis:
    """A coordinate, and the axis that it turns about (or moves along) in the positive sense."""

    coordinate: str
    axis: tuple[float, float, float]


@dataclass(frozen=True)
class _Segment:
    """A body, the joint of the skeleton at its upper end, and how it turns against its parent."""

    name: str
    parent: str
    joint: str
    axes: tuple[_Axis, ...]


def _ball(flexion: str, adduction: str, rotation: str, mirror: float = 1.0) -> tuple[_Axis, ...]:
    x, y = (mirror, 0.0, 0.0), (0.0, mirror, 0.0)
    return _Axis(flexion, (0.0, 0.0, 1.0)), _Axis(adduction, x), _Axis(rotation, y)


def _segments() -> list[_Segment]:
    """The bodies of the model, parents first."""
    result = [
        _Segment("pelvis", "ground", "hip", _ball("pelvis_tilt", "pelvis_list", "pelvis_rotation")),
        _Segment("torso", "pelvis", "spine", _ball("lumbar_extension", "lumbar_bending", "lumbar_rotation")),
    ]
    for side, mirror in (("right", 1.0), ("left", -1.0)):
        s = side[0]
        hip = _ball(f"hip_flexion_{s}", f"hip_adduction_{s}", f"hip_rotation_{s}", mirror)
        shoulder = _ball(f"arm_flex_{s}", f"arm_add_{s}", f"arm_rot_{s}", mirror)
        result += [
            _Segment(f"femur_{s}", "pelvis", f"{side}_hip", hip),
            _Segment(f"tibia_{s}", f"femur_{s}", f"{side}_knee", (_Axis(f"knee_angle_{s}", (0.0, 0.0, -1.0)),)),
            _Segment(f"humerus_{s}", "torso", f"{side}_shoulder", shoulder),
            _Segment(f"radius_{s}", f"humerus_{s}", f"{side}_elbow", (_Axis(f"elbow_flex_{s}", (0.0, 0.0, 1.0)),)),
        ]
    return result


def write_opensim(pose: Pose3D, path: Path, overwrite: bool = False, options: ExportOptions = DEFAULT_OPTIONS) -> None:
    """Write the model, markers and setup of the first person of a pose.

    Inverse kinematics is run if opensim is installed.

    Raises:
        InputError: the person has no rig, or a skeleton without hips, knees, shoulders and elbows.
        OutputError: a file exists and ``overwrite`` is not set, cannot be written, or OpenSim gives up.
    """
    motion = motions_of(pose, options, even=True)[0]
    rig = motion.held_rig()
    model = model_xml(rig, motion.names, path.stem)
    joints = motion.held_joints_y_up() @ turn_to_x(rig).T  # tilt and list of the pelvis are those of who faces x
    _, markers, setup, result = EXPORTER.files(path)
    for file in (markers, setup, result):
        check_target(file, overwrite)
    with replacing(path, overwrite) as stream:
        stream.write(model.encode())
    with replacing(markers, overwrite) as stream:
        stream.write(trc_text(motion, joints, markers.name).encode())
    with replacing(setup, overwrite) as stream:
        stream.write(setup_xml(motion, path.name, markers.name, result.name).encode())
    if find_spec("opensim") is not None:
        with replacing(result, overwrite) as stream:
            stream.write(run_inverse_kinematics(path, markers, motion))


def model_xml(rig: RigMotion, names: tuple[str, ...], title: str) -> str:
    """The model as OpenSim 4 reads it.

    Raises:
        InputError: the skeleton lacks a joint.
    """
    segments = _segments()
    if missing := [segment.joint for segment in segments if segment.joint not in names]:
        raise InputError(f"an OpenSim model needs the joints {', '.join(missing)}; this skeleton lacks them")
    places = _hanging_places(rig, names)
    origin = {segment.name: places[segment.joint] for segment in segments} | {"ground": np.zeros(3)}
    bodies = "\n".join(_body(segment.name) for segment in segments)
    joints = "\n".join(_joint(segment, origin) for segment in segments)
    carriers = {joint: _carrier(joint, names, rig.parents, segments) for joint in names}
    markers = "\n".join(
        _marker(marker, carriers[joint], places[joint] - origin[carriers[joint]])
        for marker, joint in zip(marker_names(names), names, strict=True)
    )
    return f"""<?xml version="1.0" encoding="UTF-8" ?>
<OpenSimDocument Version="40000">
<Model name={quoteattr(title)}>
<credits>Proportions measured by vp3d; coordinates as in Rajagopal et al. 2016.</credits>
<length_units>meters</length_units>
<force_units>N</force_units>
<gravity>0 -9.80665 0</gravity>
<BodySet name="bodyset"><objects>
{bodies}
</objects></BodySet>
<JointSet name="jointset"><objects>
{joints}
</objects></JointSet>
<MarkerSet name="markerset"><objects>
{markers}
</objects></MarkerSet>
</Model>
</OpenSimDocument>
"""


def _hanging_places(rig: RigMotion, names: Sequence[str]) -> dict[str, DoubleArray]:
    """Return joint positions (3,) in metres in OpenSim's axes, root at the origin.

    The person is upright with hanging arms.
    """
    places: dict[str, DoubleArray] = {}
    for joint, parent in enumerate(rig.parents):
        offset = rig.offsets[joint]
        if names[joint].endswith(("_elbow", "_wrist")):
            offset = np.array([0.0, -float(np.linalg.norm(offset)), 0.0])
        above = places[names[parent]] if parent >= 0 else np.zeros(3)
        places[names[joint]] = above + _TO_OPENSIM @ offset
    return places


def _carrier(joint: str, names: Sequence[str], parents: Sequence[int], segments: Sequence[_Segment]) -> str:
    """Return the body that a joint of the skeleton is fixed to.

    It is the nearest one above the joint that begins there or higher.
    """
    begins = {segment.joint: segment.name for segment in segments}
    at = names.index(joint)
    if joint.endswith(("_hip", "_shoulder", "_knee", "_elbow")) or joint == "spine":
        at = parents[at]  # the end of the bone above is where the joint turns; either body would do
    while names[at] not in begins:
        at = parents[at]
    return begins[names[at]]


def _body(name: str) -> str:
    mass = _MASSES[name.split("_")[0]]
    return (
        f'<Body name="{name}"><mass>{mass}</mass><mass_center>0 0 0</mass_center><inertia>1 1 1 0 0 0</inertia></Body>'
    )


def _joint(segment: _Segment, origin: dict[str, DoubleArray]) -> str:
    free = segment.parent == "ground"
    moves = (
        tuple(_Axis(f"pelvis_t{axis}", tuple(row)) for axis, row in zip("xyz", np.eye(3), strict=True)) if free else ()
    )
    coordinates = "\n".join(
        _coordinate(axis.coordinate, is_angle=axis not in moves) for axis in (*segment.axes, *moves)
    )
    parent = "/ground" if free else f"/bodyset/{segment.parent}"
    place = " ".join(f"{value:.6f}" for value in origin[segment.name] - origin[segment.parent])
    return f"""<CustomJoint name="{segment.name}_joint">
<socket_parent_frame>parent_offset</socket_parent_frame>
<socket_child_frame>child_offset</socket_child_frame>
<coordinates>
{coordinates}
</coordinates>
<frames>
<PhysicalOffsetFrame name="parent_offset">
<socket_parent>{parent}</socket_parent>
<translation>{place}</translation>
</PhysicalOffsetFrame>
<PhysicalOffsetFrame name="child_offset">
<socket_parent>/bodyset/{segment.name}</socket_parent>
</PhysicalOffsetFrame>
</frames>
<SpatialTransform>
{_transform(segment.axes, "rotation", np.eye(3)[[2, 0, 1]])}
{_transform(moves, "translation", np.eye(3))}
</SpatialTransform>
</CustomJoint>"""


def _coordinate(name: str, is_angle: bool) -> str:
    reach = "-6.2831853 6.2831853" if is_angle else "-100 100"
    return (
        f'<Coordinate name="{name}"><default_value>0</default_value><range>{reach}</range>'
        "<clamped>false</clamped></Coordinate>"
    )


def _transform(axes: Sequence[_Axis], kind: str, others: DoubleArray) -> str:
    """Three axes of a spatial transform: those that coordinates drive, then fixed ones."""
    lines = []
    for number in range(3):
        given = axes[number] if number < len(axes) else None
        axis = " ".join(f"{value:g}" for value in (others[number] if given is None else given.axis))
        driven = "" if given is None else given.coordinate
        function = (
            "<Constant><value>0</value></Constant>"
            if given is None
            else "<LinearFunction><coefficients>1 0</coefficients></LinearFunction>"
        )
        lines.append(
            f'<TransformAxis name="{kind}{number + 1}"><coordinates>{driven}</coordinates><axis>{axis}</axis>'
            f"{function}</TransformAxis>"
        )
    return "\n".join(lines)


def _marker(name: str, body: str, place: DoubleArray) -> str:
    location = " ".join(f"{value:.6f}" for value in place)
    return (
        f'<Marker name="{name}"><socket_parent_frame>/bodyset/{body}</socket_parent_frame>'
        f"<location>{location}</location><fixed>true</fixed></Marker>"
    )


def setup_xml(motion: Motion, model: str, markers: str, result: str) -> str:
    """The setup of inverse kinematics; files are named relative to it."""
    first, last = motion.times_s[0], motion.times_s[0] + (len(motion.times_s) - 1) / motion.fps
    tasks = "\n".join(
        f'<IKMarkerTask name="{name}"><apply>true</apply><weight>{_WEIGHTS.get(name, 1.0)}</weight></IKMarkerTask>'
        for name in marker_names(motion.names)
    )
    return f"""<?xml version="1.0" encoding="UTF-8" ?>
<OpenSimDocument Version="40000">
<InverseKinematicsTool name="vp3d">
<model_file>{model}</model_file>
<marker_file>{markers}</marker_file>
<output_motion_file>{result}</output_motion_file>
<time_range>{first:.6f} {last:.6f}</time_range>
<accuracy>1e-05</accuracy>
<report_errors>false</report_errors>
<IKTaskSet><objects>
{tasks}
</objects></IKTaskSet>
</InverseKinematicsTool>
</OpenSimDocument>
"""


def run_inverse_kinematics(model: Path, markers: Path, motion: Motion) -> bytes:
    """The motion file that OpenSim's inverse kinematics makes of a model and its markers.

    Raises:
        OutputError: OpenSim gives up.
    """
    with tempfile.TemporaryDirectory() as folder:  # it writes logs beside the model, and to stdout
        setup, result = Path(folder) / "setup.xml", Path(folder) / "result.mot"
        shutil.copy(model, Path(folder) / "model.osim")
        shutil.copy(markers, Path(folder) / "markers.trc")
        setup.write_text(setup_xml(motion, "model.osim", "markers.trc", result.name), "utf-8")
        command = [sys.executable, "-c", _RUN, str(setup)]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        if done.returncode != 0 or not result.exists():
            said = (done.stderr.strip() or "no message").splitlines()[-1]
            raise OutputError(f"{model}: OpenSim's inverse kinematics failed ({said}); open the setup in OpenSim")
        return result.read_bytes()


EXPORTER = Exporter(
    "opensim",
    ".osim",
    "a model of the person's size, markers and inverse kinematics for OpenSim; one person per file",
    write_opensim,
    one_person=True,
    needs_rig=True,
    holds_gaps=False,
    beside=("_markers.trc", "_ik.xml", "_ik.mot"),
)
