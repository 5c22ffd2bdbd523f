"""Configuration of a training run: a TOML file, flags on top, checked before anything starts."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

from vp3d_cli.errors import ConfigError
from vp3d_cli.lift.base import ARCHITECTURES
from vp3d_cli.normalize import InputRule
from vp3d_cli.train.cameras import CameraRanges
from vp3d_cli.train.engine import EngineSettings
from vp3d_cli.train.noise import NoiseSettings

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Task = Literal["pose", "trajectory"]
Precision = Literal["auto", "float32", "bfloat16"]
T = TypeVar("T")


@dataclass(frozen=True)
class ModelConfig:
    """``[model]``: what is trained.

    Attributes:
        task: ``pose`` or ``trajectory``.
        architecture: name in :data:`vp3d_cli.lift.base.ARCHITECTURES`.
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
        engine: how windows are made of them.
    """

    motion: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    hold_out: tuple[str, ...] = ()
    engine: EngineSettings = EngineSettings()

    def __post_init__(self) -> None:
        if not self.motion:
            raise ConfigError("[data] motion is empty; name a motion archive, or give --motion PATH")


@dataclass(frozen=True)
class LoopConfig:
    """``[train]``: the loop.

    Attributes:
        steps: optimizer steps in all.
        batch: windows per step.
        outputs: frames that each window answers for.
        stride: frames between these. 1 runs the dilated form; more (a product of the first widths of a temporal model)
            makes outputs differ more and computes nothing that none of them needs.
        learning_rate, warmup_steps, decay_share: constant after a linear warm-up, then linear to zero over the last
            ``decay_share`` of the steps.
        weight_decay: of AdamW.
        velocity_weight: of the velocity loss; needs consecutive ``outputs``.
        batch_norm_momentum: at the first and the last step, exponential between (the paper's section 5).
        ema: decay of the running average of the weights that is validated and shipped.
        pool: windows kept in memory to draw batches from.
        reuse: how often a window of the pool is used, on average, before a new one takes its place.
        validate_every, validation_windows: steps between validations, outputs judged in each.
        precision: of the network's matrix products while training; ``auto`` takes bfloat16 where it is fast.
        seed: of everything random.
    """

    steps: int = 20000
    batch: int = 1024
    outputs: int = 1
    stride: int = 1
    learning_rate: float = 1e-3
    warmup_steps: int = 300
    decay_share: float = 0.4
    weight_decay: float = 0.01
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
        positive = ("steps", "batch", "outputs", "stride", "pool", "reuse", "validate_every", "validation_windows")
        for name in positive:
            if getattr(self, name) < 1:
                raise ConfigError(f"[train] {name} must be at least 1, got {getattr(self, name)}")
        if self.velocity_weight > 0 and (self.outputs < 2 or self.stride > 1):
            raise ConfigError("[train] velocity_weight needs outputs of 2 or more, and a stride of 1")
        if self.pool < self.batch:
            raise ConfigError(f"[train] pool ({self.pool}) must hold at least one batch ({self.batch})")
        if not (self.learning_rate > 0 and 0 <= self.decay_share <= 1 and 0 <= self.ema < 1):
            raise ConfigError("[train] learning_rate must be positive, decay_share in [0, 1], ema in [0, 1)")
        if self.precision not in get_args(Precision):
            raise ConfigError(f"[train] precision must be one of {', '.join(get_args(Precision))}")


@dataclass(frozen=True)
class TrainConfig:
    """A whole run; one section of the TOML file per field."""

    model: ModelConfig = ModelConfig()
    input: InputRule = InputRule()
    data: DataConfig = field(default_factory=lambda: DataConfig(motion=("",)))
    train: LoopConfig = LoopConfig()

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


# Fields that are sections of their own.
_SECTIONS: dict[str, type[Any]] = {
    "model": ModelConfig,
    "input": InputRule,
    "data": DataConfig,
    "train": LoopConfig,
    "engine": EngineSettings,
    "cameras": CameraRanges,
    "noise": NoiseSettings,
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
        if name in _SECTIONS:
            kwargs[name] = _build(_SECTIONS[name], value, f"{where} [{name}]")
        else:
            kwargs[name] = tuple(value) if isinstance(value, list) else value
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
