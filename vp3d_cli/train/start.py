"""Starting a new lifter from the weights of another, which may have fewer levels."""

from __future__ import annotations

from torch import nn

from vp3d_cli.errors import TrainingError

# What a new level adds to the answer at first: little, so that nothing learned is lost, but not nothing, because a
# block that is exactly zero before its ReLU has no gradient.
_FIRST_SHARE = 0.1


def start_with(model: nn.Module, other: nn.Module, name: str) -> None:
    """Copy weights into a model, in place.

    A temporal model may have more levels than the one it starts from. The new ones, with their residual connections,
    begin close to the identity, so the longer model begins with the answers of the shorter one.

    Args:
        model: takes the weights.
        other: has them.
        name: of the other, for the error.

    Raises:
        TrainingError: a weight has no counterpart, or another shape.
    """
    ours, theirs = model.state_dict(), other.state_dict()
    unknown = sorted(set(theirs) - set(ours))
    unlike = [key for key in theirs if key in ours and ours[key].shape != theirs[key].shape]
    if unknown or unlike:
        key = (unknown or unlike)[0]
        raise TrainingError(
            f"cannot start from {name}: {key} is {tuple(theirs[key].shape)} there and "
            f"{tuple(ours[key].shape) if key in ours else 'missing'} here; use the same architecture and channels"
        )
    model.load_state_dict(theirs, strict=False)
    for key in set(ours) - set(theirs):
        if not key.startswith(("layers_conv.", "layers_bn.")):
            raise TrainingError(f"cannot start from {name}: it has no {key}; use the same architecture")
        # The batch norm that ends a block (a level has two convolutions, hence two norms).
        if key.endswith(".weight") and key.startswith("layers_bn.") and int(key.split(".")[1]) % 2:
            ours[key].fill_(_FIRST_SHARE)
