"""Configuration of a training run: a TOML file with command-line overrides."""

from __future__ import annotations

import dataclasses
import math
import sys
from collections.abc import Callable, Mapping
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
    """``[model]``: task and architecture of the lifter.

    Attributes:
        task: ``pose`` or ``trajectory``.
        architecture: name in :data:`vp3d_cli.plugins.ARCHITECTURES`.
        options: options of the architecture; joints and features follow from task and input rule.
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
    """``[data]``: motion capture to train on.

    Attributes:
        motion: paths of motion archives, folders or pose files.
        sources: sources to use; all if empty.
        hold_out: regular expressions; a clip whose name matches any is held out for validation.
        labelled: part of the other clips to train on, for experiments with few labels: a share (selected by clip name,
            so always the same clips), or regular expressions for names.
        engine: how training windows are generated.
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
    """``[dataset]``: a prepared data set (see ``vp3d data``), instead of motion capture.

    Attributes:
        folder: folder of its archives; empty to train on motion capture.
        name: ``human36m`` or ``humaneva``.
        keypoints: kind of 2D keypoints, such as ``gt`` or ``cpn_ft_h36m_dbb``.
        train, test: subjects; the standard split of the data set if empty.
        actions: prefixes of sequence names to use; all sequences if empty.
        subset: share of every training sequence that is labelled: one contiguous part, always the same.
        downsample: keep every Nth frame; sets the lifter's frame rate.
        cameras: camera file to use instead of the bundled one, which may lack intrinsics.
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
    """``[semi]``: semi-supervised training (Pavllo et al. 2019, section 4).

    It is on if there are unlabelled data.

    Attributes:
        subjects: subjects of the data set whose labels are not used. For a subject who is also in ``dataset.train``,
            this is the part outside ``dataset.subset``.
        unlabelled: keypoint files, or folders of them, as ``vp3d infer --keypoints-only`` writes them.
        warmup_epochs, warmup_steps: training time without unlabelled data; the two add up.
        trajectory, reprojection, bone_lengths: weights of the losses; 0 disables one. The gradient of mean bone lengths
            points the same way for a whole batch: with a weight of 1 it outweighs all others.
        placed_by: how a predicted pose is placed before it is projected: by the ``trajectory`` network, as in the
            paper, or by a ``fit`` of the pose to its keypoints. With the fit, the pose does not have to compensate
            errors of the trajectory network, which learns from its own reprojection.
    """

    subjects: tuple[str, ...] = ()
    unlabelled: tuple[str, ...] = ()
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
        if self.subjects and self.unlabelled:
            raise ConfigError("[semi] subjects and unlabelled are two kinds of unlabelled data; give one of them")

    @property
    def on(self) -> bool:
        """Whether there are unlabelled data."""
        return bool(self.subjects or self.unlabelled)


@dataclass(frozen=True)
class LoopConfig:
    """``[train]``: training loop, optimizer and batches.

    Attributes:
        steps: optimizer steps in all, unless ``epochs`` or ``minutes`` is set.
        minutes: training time with validation, instead of ``steps`` and ``epochs``; the schedule follows it. 0: off.
        epochs: passes over a data set; generated data has no epochs and is trained on for ``steps``.
        batch: windows per step; in semi-supervised training, half of them are unlabelled.
        outputs: output frames per window.
        stride: frames from one output to the next. 1 runs the dilated form. More (a product of the first widths of a
            temporal model) makes the outputs less similar and skips computation that no output needs.
        learning_rate, warmup_steps, decay_share: linear warm-up, constant, then linear decay to zero over the last
            ``decay_share`` of the steps or minutes.
        epoch_decay: additional factor of the learning rate after every epoch.
        optimizer: ``muon`` (with AdamW for all but hidden matrices), ``adamw``, or ``adam-amsgrad`` (the paper's).
        weight_decay: weight decay of Muon and AdamW.
        flips: also train on mirrored windows.
        velocity_weight: weight of the velocity loss; needs consecutive ``outputs``.
        batch_norm_momentum: at the first and the last step, exponential in between (section 5 of the paper).
        ema: decay of the exponential moving average of the weights, which is validated and saved.
        pool: generated windows kept in memory, from which batches are drawn.
        reuse: how often a window of the pool is used, on average, before it is replaced.
        validate_every: steps between validations; 0 validates after every epoch.
        validation_windows: output frames in a validation.
        precision: precision of the networks' matrix products in training; ``auto`` uses bfloat16 where it is fast.
            ``float64`` runs everything in double precision, for checks.
        seed: seed of all random numbers.
    """

    steps: int = 20000
    minutes: float = 0.0
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
            **dict.fromkeys(("minutes", "epochs", "validate_every", "warmup_steps"), 0),
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
    """Configuration of a run; each field is a section of the TOML file."""

    model: ModelConfig = ModelConfig()
    input: InputRule = InputRule()
    data: DataConfig = DataConfig()
    dataset: DatasetConfig = DatasetConfig()
    semi: SemiConfig = SemiConfig()
    train: LoopConfig = LoopConfig()

    def __post_init__(self) -> None:
        if bool(self.data.motion) == bool(self.dataset.folder):
            both = "both [data] motion and [dataset] folder are given" if self.data.motion else "there is no data"
            raise ConfigError(f"{both}; give --motion PATH, or --data FOLDER of a prepared data set")
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
            raise ConfigError('semi-supervised training trains both networks; leave [model] task at "pose"')
        if self.semi.on and self.train.batch < 2:
            raise ConfigError("semi-supervised training needs train.batch of at least 2: one half of it is unlabelled")

    @property
    def labelled_batch(self) -> int:
        """Number of labelled windows per step."""
        return self.train.batch // 2 if self.semi.on else self.train.batch

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for a checkpoint; :func:`parse_config` reads them back."""
        return dataclasses.asdict(self)


def parse_toml(text: str) -> dict[str, Any]:
    """Parse TOML.

    Raises:
        ConfigError: the text is not TOML.
    """
    try:
        values: dict[str, Any] = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # TOMLDecodeError, or a number of thousands of digits
        raise ConfigError(f"invalid TOML: {error}") from error
    return values


def read_config(
    path: Path | None, overrides: Mapping[str, Any] | None = None, on_note: Callable[[str], None] | None = None
) -> TrainConfig:
    """Read a TOML file and apply overrides.

    Args:
        path: the file, or None for defaults.
        overrides: nested values, section -> name -> value.
        on_note: called with one sentence for each key that has a new name.

    Raises:
        ConfigError: unreadable file, unknown section or name, value of the wrong type, contradiction.
    """
    values: dict[str, Any] = {}
    if path is not None:
        try:
            values = parse_toml(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, ConfigError) as error:
            raise ConfigError(f"cannot read configuration {path}: {error}") from error
    values = _with_new_names(values, str(path), on_note)
    overrides = _with_new_names(overrides or {}, "--set", on_note)
    return parse_config(_merge(values, overrides), str(path or "defaults"))


def _merge(values: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(values)
    for name, value in overrides.items():
        inner = merged.get(name)
        merged[name] = _merge(inner, value) if isinstance(value, Mapping) and isinstance(inner, Mapping) else value
    return merged


def parse_config(values: Mapping[str, Any], where: str) -> TrainConfig:
    """Check nested plain values and create a :class:`TrainConfig`.

    Raises:
        ConfigError: unknown section or name, value of the wrong type, contradiction.
    """
    return _build(TrainConfig, _with_new_names(values, where), where)


# Keys that were renamed: section, old name, new name. Files and checkpoints with the old names still work.
_RENAMED = (("semi", "footage", "unlabelled"),)


def _with_new_names(
    values: Mapping[str, Any], where: str, on_note: Callable[[str], None] | None = None
) -> dict[str, Any]:
    values = dict(values)
    for section, old, new in _RENAMED:
        inner = values.get(section)
        if isinstance(inner, Mapping) and old in inner:
            if new in inner:
                raise ConfigError(f"{where}: [{section}] {old} is the old name of {new}; give {new} only")
            values[section] = {new if name == old else name: value for name, value in inner.items()}
            if on_note is not None:
                on_note(f"{where}: [{section}] {old} is now called {new}")
    return values


# Fields of these types are sections of the TOML file.
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
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{where}: {error}") from error


def _check_type(declared: dataclasses.Field[Any], value: Any, where: str) -> None:
    types: dict[str, tuple[type, ...]] = {"int": (int,), "float": (int, float), "str": (str,), "bool": (bool,)}
    declared_type = str(declared.type)
    if declared_type.startswith("tuple[") and not isinstance(value, tuple):
        raise ConfigError(f"{where} must be a list, got {value!r}")
    if any(
        isinstance(part, float) and not math.isfinite(part) for part in (value if isinstance(value, tuple) else [value])
    ):
        raise ConfigError(f"{where} must be finite, got {value!r}")
    inside = types.get(declared_type.removeprefix("tuple[").partition(",")[0].rstrip("]"))
    if declared_type.startswith("tuple[") and inside and not all(isinstance(part, inside) for part in value):
        raise ConfigError(f"{where} must be a list of {inside[-1].__name__}, got {value!r}")
    wanted = types.get(declared_type)
    if wanted is not None and (not isinstance(value, wanted) or (isinstance(value, bool) and wanted != (bool,))):
        raise ConfigError(f"{where} must be {declared.type}, got {value!r}")
