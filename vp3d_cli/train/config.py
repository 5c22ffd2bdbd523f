"""Configuration of a training run: a TOML file, flags on top, checked before anything starts."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

from vp3d_cli.errors import ConfigError
from vp3d_cli.lift.checkpoint import Task
from vp3d_cli.lift.input_rule import InputRule
from vp3d_cli.plugins import ARCHITECTURES
from vp3d_cli.train.synthesis.cameras import CameraRanges
from vp3d_cli.train.synthesis.engine import EngineSettings
from vp3d_cli.train.synthesis.noise import NoiseSettings

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Precision = Literal["auto", "float32", "bfloat16", "float64"]
Optimizer = Literal["muon", "adamw", "adam-amsgrad"]
Placing = Literal["trajectory", "fit"]
T = TypeVar("T")


@dataclass(frozen=True)
class ModelConfig:
    """``[model]``: what is trained.

    Attributes:
        task: ``pose`` or ``trajectory``.
        architecture: name in :data:`vp3d_cli.plugins.ARCHITECTURES`.
        options: of the architecture, but for joints and features, which follow from task and input rule.
    """

    task: Task = "pose"
    architecture: str = "temporal"
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.task not in get_args(Task):
            raise ConfigError(f"[model] task must be pose or trajectory, got {self.task!r}")
        if self.architecture not in ARCHITECTURES:
            known = ", ".join(ARCHITECTURES)
            raise ConfigError(f"[model] architecture must be one of {known}, got {self.architecture!r}")


@dataclass(frozen=True)
class DataConfig:
    """``[data]``: the motions.

    Attributes:
        motion: paths of motion archives, folders or pose files.
        sources: only these sources; all if empty.
        hold_out: regular expressions; a clip whose name matches any is kept for validation.
        labelled: of the other clips, those that are trained on: a share of them (chosen by their names, so always the
            same), or regular expressions. For finding out what few labels are worth.
        engine: how windows are made of them.
    """

    motion: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    hold_out: tuple[str, ...] = ()
    labelled: float | str | tuple[str, ...] = 1.0
    engine: EngineSettings = EngineSettings()

    def __post_init__(self) -> None:
        if isinstance(self.labelled, str):
            object.__setattr__(self, "labelled", (self.labelled,))
        elif not isinstance(self.labelled, tuple) and not 0 < self.labelled <= 1:
            raise ConfigError(f"[data] labelled must be in (0, 1], or regular expressions, got {self.labelled}")


@dataclass(frozen=True)
class DatasetConfig:
    """``[dataset]``: a prepared data set, in place of motions (see ``vp3d data``).

    Attributes:
        folder: of its archives; "" if motions are trained on.
        name: ``human36m`` or ``humaneva``.
        keypoints: which 2D keypoints, such as ``gt`` or ``cpn_ft_h36m_dbb``.
        train, test: subjects; the data set's usual ones if empty.
        actions: only sequences whose names begin with one of these; all if empty.
        subset: share of every training sequence that is labelled: one stretch of it, always the same.
        downsample: keep every so many frames; sets the lifter's frame rate.
        cameras: file of cameras of your own, where the ones that ship lack intrinsics.
    """

    folder: str = ""
    name: str = "human36m"
    keypoints: str = "gt"
    train: tuple[str, ...] = ()
    test: tuple[str, ...] = ()
    actions: tuple[str, ...] = ()
    subset: float = 1.0
    downsample: int = 1
    cameras: str = ""

    def __post_init__(self) -> None:
        if not 0 < self.subset <= 1:
            raise ConfigError(f"[dataset] subset must be in (0, 1], got {self.subset}")
        if self.downsample < 1:
            raise ConfigError(f"[dataset] downsample must be at least 1, got {self.downsample}")


@dataclass(frozen=True)
class SemiConfig:
    """``[semi]``: semi-supervised training (Pavllo et al. 2019, section 4); on where there is something unlabelled.

    Attributes:
        subjects: of the data set, whose labels are not used. Of a subject who is trained on as well, the part outside
            ``dataset.subset`` is.
        footage: keypoint files, or folders of them, as ``vp3d infer --keypoints-only`` writes them.
        warmup_epochs, warmup_steps: how long the unlabelled half is left out; both may be given.
        trajectory, reprojection, bone_lengths: weights of the losses; 0 leaves one out. The gradient of mean bone
            lengths points the same way for a whole batch: with a weight of 1 it outweighs all others.
        placed_by: what puts a predicted pose where it is projected from: the ``trajectory`` network, as in the paper,
            or a ``fit`` of the pose to its keypoints. Then the pose need not make up for mistakes of the trajectory
            network, which learns from back-projection by itself.
    """

    subjects: tuple[str, ...] = ()
    footage: tuple[str, ...] = ()
    warmup_epochs: int = 0
    warmup_steps: int = 0
    trajectory: float = 1.0
    reprojection: float = 1.0
    bone_lengths: float = 0.1
    placed_by: Placing = "trajectory"

    def __post_init__(self) -> None:
        for name in ("warmup_epochs", "warmup_steps", "trajectory", "reprojection", "bone_lengths"):
            if getattr(self, name) < 0:
                raise ConfigError(f"[semi] {name} must not be negative, got {getattr(self, name)}")
        if self.placed_by not in get_args(Placing):
            raise ConfigError(f"[semi] placed_by must be one of {', '.join(get_args(Placing))}, got {self.placed_by!r}")
        if self.subjects and self.footage:
            raise ConfigError("[semi] subjects and footage are two kinds of unlabelled data; give one")

    @property
    def on(self) -> bool:
        """Whether there is something unlabelled."""
        return bool(self.subjects or self.footage)


@dataclass(frozen=True)
class LoopConfig:
    """``[train]``: the loop.

    Attributes:
        steps: optimizer steps in all, unless ``epochs`` says how many.
        epochs: passes over a data set; motions have no end, so they are trained on for ``steps``.
        batch: windows per step; in semi-supervised training, half of them are unlabelled.
        outputs: frames that each window answers for.
        stride: frames between these. 1 runs the dilated form; more (a product of the first widths of a temporal model)
            makes outputs differ more and computes nothing that none of them needs.
        learning_rate, warmup_steps, decay_share: constant after a linear warm-up, then linear to zero over the last
            ``decay_share`` of the steps.
        epoch_decay: factor of the learning rate after every epoch, besides.
        optimizer: ``muon`` (with AdamW for what is no hidden matrix), ``adamw``, or ``adam-amsgrad`` (the paper's).
        weight_decay: of Muon and AdamW.
        flips: train on mirrored windows as well.
        velocity_weight: of the velocity loss; needs consecutive ``outputs``.
        batch_norm_momentum: at the first and the last step, exponential between (the paper's section 5).
        ema: decay of the running average of the weights that is validated and shipped.
        pool: windows kept in memory to draw batches from.
        reuse: how often a window of the pool is used, on average, before a new one takes its place.
        validate_every, validation_windows: steps between validations (0: one after every epoch), outputs judged in
            each.
        precision: of the network's matrix products while training; ``auto`` takes bfloat16 where it is fast. With
            ``float64`` everything is in double precision, for checks.
        seed: of everything random.
    """

    steps: int = 20000
    epochs: int = 0
    batch: int = 1024
    outputs: int = 1
    stride: int = 1
    learning_rate: float = 1e-3
    warmup_steps: int = 300
    decay_share: float = 0.4
    epoch_decay: float = 1.0
    optimizer: Optimizer = "adamw"
    weight_decay: float = 0.01
    flips: bool = True
    velocity_weight: float = 0.0
    batch_norm_momentum: tuple[float, float] = (0.1, 0.001)
    ema: float = 0.999
    pool: int = 24576
    reuse: int = 3
    validate_every: int = 500
    validation_windows: int = 2048
    precision: Precision = "auto"
    seed: int = 1

    def __post_init__(self) -> None:
        least = {
            **dict.fromkeys(("steps", "batch", "outputs", "stride", "pool", "reuse", "validation_windows"), 1),
            **dict.fromkeys(("epochs", "validate_every", "warmup_steps"), 0),
        }
        for name, lowest in least.items():
            if getattr(self, name) < lowest:
                raise ConfigError(f"[train] {name} must be at least {lowest}, got {getattr(self, name)}")
        if self.velocity_weight > 0 and (self.outputs < 2 or self.stride > 1):
            raise ConfigError("[train] velocity_weight needs outputs of 2 or more, and a stride of 1")
        if self.pool < self.batch:
            raise ConfigError(f"[train] pool ({self.pool}) must hold at least one batch ({self.batch})")
        if not (self.learning_rate > 0 and 0 <= self.decay_share <= 1 and 0 <= self.ema < 1):
            raise ConfigError("[train] learning_rate must be positive, decay_share in [0, 1], ema in [0, 1)")
        if not 0 < self.epoch_decay <= 1:
            raise ConfigError(f"[train] epoch_decay must be in (0, 1], got {self.epoch_decay}")
        if self.optimizer not in get_args(Optimizer):
            raise ConfigError(f"[train] optimizer must be one of {', '.join(get_args(Optimizer))}")
        if self.precision not in get_args(Precision):
            raise ConfigError(f"[train] precision must be one of {', '.join(get_args(Precision))}")


@dataclass(frozen=True)
class TrainConfig:
    """A whole run; one section of the TOML file per field."""

    model: ModelConfig = ModelConfig()
    input: InputRule = InputRule()
    data: DataConfig = DataConfig()
    dataset: DatasetConfig = DatasetConfig()
    semi: SemiConfig = SemiConfig()
    train: LoopConfig = LoopConfig()

    def __post_init__(self) -> None:
        if bool(self.data.motion) == bool(self.dataset.folder):
            both = "both [data] motion and [dataset] folder are given" if self.data.motion else "there is no data"
            raise ConfigError(f"{both}; give --motion PATH, or --data FOLDER with a prepared data set")
        if not self.dataset.folder:
            wants = [
                name
                for name, wanted in {
                    "train.epochs": self.train.epochs > 0,
                    "train.epoch_decay": self.train.epoch_decay < 1,
                    "train.validate_every=0": self.train.validate_every == 0,
                    "semi.subjects": bool(self.semi.subjects),
                    "semi.warmup_epochs": self.semi.on and self.semi.warmup_epochs > 0,
                }.items()
                if wanted
            ]
            if wants:
                raise ConfigError(f"{', '.join(wants)} needs a data set (--data); motion has no epochs and no subjects")
        if self.semi.on and self.model.task != "pose":
            raise ConfigError('semi-supervised training trains both models; leave [model] task at "pose"')
        if self.semi.on and self.train.batch < 2:
            raise ConfigError("semi-supervised training needs train.batch of at least 2: one half of it is unlabelled")

    @property
    def labelled_batch(self) -> int:
        """Labelled windows per step."""
        return self.train.batch // 2 if self.semi.on else self.train.batch

    def as_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps; :func:`parse_config` reads it back."""
        return dataclasses.asdict(self)


def parse_toml(text: str) -> dict[str, Any]:
    """Parse TOML.

    Raises:
        ConfigError: it is not TOML.
    """
    try:
        values: dict[str, Any] = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"not TOML: {error}") from error
    return values


def read_config(path: Path | None, overrides: Mapping[str, Any] | None = None) -> TrainConfig:
    """Read a TOML file and lay flags over it.

    Args:
        path: the file, or None for defaults.
        overrides: nested values, section -> name -> value.

    Raises:
        ConfigError: unreadable file, unknown section or name, value of the wrong type, contradiction.
    """
    values: dict[str, Any] = {}
    if path is not None:
        try:
            values = parse_toml(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, ConfigError) as error:
            raise ConfigError(f"cannot read configuration {path}: {error}") from error
    return parse_config(_merge(values, overrides or {}), str(path or "defaults"))


def _merge(values: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(values)
    for name, value in overrides.items():
        inner = merged.get(name)
        merged[name] = _merge(inner, value) if isinstance(value, Mapping) and isinstance(inner, Mapping) else value
    return merged


def parse_config(values: Mapping[str, Any], where: str) -> TrainConfig:
    """Check nested plain values and make a :class:`TrainConfig` of them.

    Raises:
        ConfigError: unknown section or name, value of the wrong type, contradiction.
    """
    return _build(TrainConfig, values, where)


# Fields of these types are sections of their own.
_SECTIONS: dict[str, type[Any]] = {
    kind.__name__: kind
    for kind in (
        ModelConfig,
        InputRule,
        DataConfig,
        DatasetConfig,
        SemiConfig,
        LoopConfig,
        EngineSettings,
        CameraRanges,
        NoiseSettings,
    )
}


def _build(kind: type[T], values: Mapping[str, Any], where: str) -> T:
    if not isinstance(values, Mapping):
        raise ConfigError(f"{where} must be a section, got {values!r}")
    fields = {f.name: f for f in dataclasses.fields(kind)}  # type: ignore[arg-type]
    unknown = [name for name in values if name not in fields]
    if unknown:
        raise ConfigError(f"{where}: unknown {', '.join(unknown)}; known: {', '.join(fields)}")
    kwargs: dict[str, Any] = {}
    for name, value in values.items():
        section = _SECTIONS.get(str(fields[name].type))
        if section is not None:
            kwargs[name] = _build(section, value, f"{where} [{name}]")
        else:
            alone = str(fields[name].type).startswith("tuple[str") and isinstance(value, str)
            kwargs[name] = (value,) if alone else tuple(value) if isinstance(value, list) else value
            _check_type(fields[name], kwargs[name], f"{where}: {name}")
    try:
        return kind(**kwargs)
    except TypeError as error:
        raise ConfigError(f"{where}: {error}") from error


def _check_type(declared: dataclasses.Field[Any], value: Any, where: str) -> None:
    types: dict[str, tuple[type, ...]] = {"int": (int,), "float": (int, float), "str": (str,), "bool": (bool,)}
    wanted = types.get(str(declared.type))
    if wanted is not None and (not isinstance(value, wanted) or (isinstance(value, bool) and wanted != (bool,))):
        raise ConfigError(f"{where} must be {declared.type}, got {value!r}")
