"""Registry of detectors, lifters, exporters and keypoint readers.

It has built-in parts and those of installed packages.

Each kind of part has one :class:`Registry`. A built-in part is one line here, ``name: "module:attribute"``, so that
importing this file loads none of them. Another package adds a part by an entry point of the registry's group:

    [project.entry-points."vp3d.exporters"]
    myformat = "my_package.exporter:EXPORTER"

:mod:`vp3d_cli.testing` has the contract test of each kind.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Generic, TypeVar

from vp3d_cli.errors import ConfigError, PluginError

T = TypeVar("T")


class Registry(Generic[T]):
    """The parts of one kind, by name; built-in parts come first and cannot be replaced.

    Args:
        kind: what messages call such a part, such as ``detector``.
        built_in: name to ``"module:attribute"``.
        group: entry-point group of other packages; empty where only built-in parts are possible.
        must_be: ``"module:class"`` that a part of another package must be an instance of; empty for any object.
    """

    def __init__(self, kind: str, built_in: Mapping[str, str], group: str = "", must_be: str = "") -> None:
        self.kind, self.group = kind, group
        self._built_in, self._must_be = dict(built_in), must_be
        self._registered: dict[str, T] = {}

    @cached_property
    def _from_packages(self) -> dict[str, EntryPoint]:
        found = entry_points(group=self.group) if self.group else ()
        return {point.name: point for point in found if point.name not in self._built_in}

    def __iter__(self) -> Iterator[str]:
        """All names; no part is loaded."""
        return iter(dict.fromkeys([*self._built_in, *self._from_packages, *self._registered]))

    def __contains__(self, name: object) -> bool:
        return name in set(self)

    def register(self, name: str, part: T) -> None:
        """Add a part for this process alone; it replaces one of the same name."""
        self._registered[name] = part

    def get(self, name: str) -> T:
        """Load a part.

        Raises:
            ConfigError: there is no part of this name; the message lists those there are.
            PluginError: another package's part cannot be loaded; the message says which, and why.
        """
        if name in self._registered:
            return self._registered[name]
        if name in self._built_in:
            part: T = _attribute(self._built_in[name])
            return part
        if name not in self._from_packages:
            raise ConfigError(f"unknown {self.kind} {name!r}; known: {', '.join(self)}")
        return self._load(self._from_packages[name])

    def loaded(self) -> dict[str, T]:
        """All parts that can be loaded, by name; :meth:`problems` lists the others."""
        return {name: part for name, part in self._try_all().items() if not isinstance(part, PluginError)}

    def problems(self) -> dict[str, str]:
        """Why parts of other packages cannot be loaded, by name."""
        return {name: str(part) for name, part in self._try_all().items() if isinstance(part, PluginError)}

    def _try_all(self) -> dict[str, T | PluginError]:
        parts: dict[str, T | PluginError] = {}
        for name in self:
            try:
                parts[name] = self.get(name)
            except PluginError as error:
                parts[name] = error
        return parts

    def _load(self, point: EntryPoint) -> T:
        where = f"{self.kind} {point.name!r} of the package {point.dist.name if point.dist else '?'} ({point.value})"
        try:
            part = point.load()
        except Exception as error:
            said = " ".join(str(error).split()) or "no message"
            reason = f"cannot be loaded ({type(error).__name__}: {said})"
            raise PluginError(f"{where} {reason}; update or remove that package") from error
        if self._must_be and not isinstance(part, _attribute(self._must_be)):
            raise PluginError(f"{where} is not a {self._must_be.replace(':', '.')}; update or remove that package")
        loaded: T = part
        return loaded


def _attribute(target: str) -> Any:
    module, _, name = target.partition(":")
    return getattr(import_module(module), name)


DETECTORS: Registry[Any] = Registry(
    "detector",
    {
        "movenet": "vp3d_cli.detect.built_in:MOVENET",
        "movenet-fast": "vp3d_cli.detect.built_in:MOVENET_FAST",
        "cpn": "vp3d_cli.detect.built_in:CPN",
        "mask-rcnn": "vp3d_cli.detect.built_in:MASK_RCNN",
        "mask-rcnn-torchvision": "vp3d_cli.detect.built_in:MASK_RCNN_TORCHVISION",
        "rtmpose": "vp3d_cli.detect.built_in:RTMPOSE",
    },
    group="vp3d.detectors",
    must_be="vp3d_cli.detect.base:DetectorInfo",
)

# Lifters of other packages. The lifters that ship are weight files: see weights/manifest.json.
LIFTERS: Registry[Any] = Registry("lifter", {}, group="vp3d.lifters", must_be="vp3d_cli.lift.base:LifterPlugin")

EXPORTERS: Registry[Any] = Registry(
    "format",
    {
        "npz": "vp3d_cli.io.poses.npz:EXPORTER",
        "bvh": "vp3d_cli.io.poses.bvh:EXPORTER",
        "glb": "vp3d_cli.io.poses.glb:EXPORTER",
        "usd": "vp3d_cli.io.poses.usd:EXPORTER",
        "trc": "vp3d_cli.io.poses.trc:EXPORTER",
        "mot": "vp3d_cli.io.poses.mot:EXPORTER",
        "opensim": "vp3d_cli.io.poses.opensim:EXPORTER",
        "c3d": "vp3d_cli.io.poses.c3d:EXPORTER",
        "csv": "vp3d_cli.io.poses.csv:EXPORTER",
        "parquet": "vp3d_cli.io.poses.parquet:EXPORTER",
        "json": "vp3d_cli.io.poses.json:EXPORTER",
        "coco": "vp3d_cli.io.poses.coco:EXPORTER",
        "rerun": "vp3d_cli.io.poses.rerun:EXPORTER",
    },
    group="vp3d.exporters",
    must_be="vp3d_cli.io.poses.base:Exporter",
)

# In the order in which they are asked whether a file is theirs.
KEYPOINT_READERS: Registry[Any] = Registry(
    "keypoint format",
    {
        "vp3d": "vp3d_cli.io.keypoints.native:READER",
        "videopose3d": "vp3d_cli.io.keypoints.videopose3d:READER",
        "detectron": "vp3d_cli.io.keypoints.detectron:READER",
        "mmpose": "vp3d_cli.io.keypoints.mmpose:READER",
        "alphapose": "vp3d_cli.io.keypoints.alphapose:READER",
        "coco": "vp3d_cli.io.keypoints.coco:READER",
        "coco-dataset": "vp3d_cli.io.keypoints.coco_dataset:READER",
        "easy-vitpose": "vp3d_cli.io.keypoints.easy_vitpose:READER",
        "openpose": "vp3d_cli.io.keypoints.openpose:READER",
        "mediapipe": "vp3d_cli.io.keypoints.mediapipe:READER",
        "deeplabcut": "vp3d_cli.io.keypoints.deeplabcut:READER",
        "sports2d": "vp3d_cli.io.keypoints.sports2d:READER",
        "yolo": "vp3d_cli.io.keypoints.yolo:READER",
        "array": "vp3d_cli.io.keypoints.arrays:READER",
    },
    group="vp3d.keypoint_readers",
    must_be="vp3d_cli.io.keypoints.base:KeypointReader",
)

# Networks that a lifter file may hold; each is a function from the configuration in the file to the network.
ARCHITECTURES: Registry[Any] = Registry(
    "architecture",
    {
        "temporal": "vp3d_cli.lift.temporal:build",
        "dense": "vp3d_cli.paper.networks.dense:build",
        "simple": "vp3d_cli.paper.networks.simple:build",
        "recurrent": "vp3d_cli.paper.networks.recurrent:build",
    },
)

# What a training run reads, by the section of its configuration that names it.
TRAINING_DATA: Registry[Any] = Registry(
    "kind of training data",
    {"motion": "vp3d_cli.train.data:MotionData", "dataset": "vp3d_cli.paper.training:DatasetData"},
)

# What the methods of Pose3D do; here, so that the container itself imports no stage.
POSE_METHODS: Registry[Any] = Registry(
    "method of a pose",
    {
        "save": "vp3d_cli.io.poses:export_pose",
        "to_dataframe": "vp3d_cli.io.tables:pose_table",
        "with_rigs": "vp3d_cli.refine.rig:add_rigs",
        "angles": "vp3d_cli.analysis.angles:joint_angles",
    },
)
