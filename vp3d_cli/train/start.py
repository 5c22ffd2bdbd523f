"""Starting a new lifter from the weights of another, which may have fewer levels."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from vp3d_cli.errors import TrainingError
from vp3d_cli.lift.temporal import TemporalConfig, TemporalModel

# What a new level adds to the answer at first: little, so that nothing learned is lost, but not nothing, because a
# block that is exactly zero before its ReLU has no gradient.
_FIRST_SHARE = 0.1


def start_with(model: nn.Module, other: nn.Module, name: str) -> None:
    """Copy weights into a model, in place.

    A temporal model may have more levels than the one it starts from, wherever they are: levels are matched in order
    by :func:`match_levels`. The new ones, with their residual connections, begin close to the identity, so the longer
    model begins with the answers of the shorter one.

    Args:
        model: takes the weights.
        other: has them.
        name: of the other, for the error.

    Raises:
        TrainingError: a level or a weight has no counterpart, or another shape.
    """
    ours, theirs = model.state_dict(), other.state_dict()
    new: list[int] = []
    if isinstance(model, TemporalModel) and isinstance(other, TemporalModel):
        levels = match_levels(other.config, model.config, name)
        theirs = {_moved(key, levels): value for key, value in theirs.items()}
        new = [level for level in range(len(model.config.widths)) if level not in levels]
    _check_shapes(ours, theirs, name)
    missing = [key for key in ours if key not in theirs and _level_of(key) not in new]
    if missing:
        raise TrainingError(f"cannot start from {name}: it has no {missing[0]}; use the same architecture")
    model.load_state_dict(theirs, strict=False)
    for level in new:
        # The batch norm that ends the level.
        ours[f"layers_bn.{2 * level - 1}.weight"].fill_(_FIRST_SHARE)


def match_levels(source: TemporalConfig, target: TemporalConfig, name: str) -> list[int]:
    """The level of the target that each level of the source becomes: the first of its width that is left.

    The first levels, which read the keypoints, are counterparts. A level wider than one frame must also keep the
    distance between the frames it compares, or it would answer for another motion.

    Args:
        source, target: architectures.
        name: of the source, for the error.

    Raises:
        TrainingError: a level of the source has no counterpart.
    """
    levels: list[int] = []
    for level, width in enumerate(source.widths):
        found = [
            ours
            for ours in range(levels[-1] + 1 if levels else 0, len(target.widths) if level else 1)
            if target.widths[ours] == width and (width == 1 or target.strides[ours] == source.strides[level])
        ]
        if not found:
            raise TrainingError(
                f"cannot start from {name}: level {level + 1} of its widths {list(source.widths)} has no counterpart "
                f"in {list(target.widths)}; model.options.widths must have theirs in order, and may have more: of 1 "
                "after the first, wider ones after all of theirs that are wider than 1"
            )
        levels.append(found[0])
    return levels


def _check_shapes(ours: dict[str, Tensor], theirs: dict[str, Tensor], name: str) -> None:
    for key, value in theirs.items():
        if key not in ours or ours[key].shape != value.shape:
            raise TrainingError(
                f"cannot start from {name}: {key} is {tuple(value.shape)} there and "
                f"{tuple(ours[key].shape) if key in ours else 'missing'} here; use the same architecture and channels"
            )


def _level_of(key: str) -> int | None:
    """The level of a temporal model's weight, two convolutions and two batch norms each; None of the first and last."""
    kind, _, rest = key.partition(".")
    return int(rest.partition(".")[0]) // 2 + 1 if kind in ("layers_conv", "layers_bn") else None


def _moved(key: str, levels: Sequence[int]) -> str:
    """The name that a weight has in the model where the levels are elsewhere."""
    level = _level_of(key)
    if level is None:
        return key
    kind, number, rest = key.split(".", 2)
    return f"{kind}.{int(number) + 2 * (levels[level] - level)}.{rest}"
