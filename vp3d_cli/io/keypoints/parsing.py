"""Checked conversion of values in keypoint files: numbers, boxes, frame numbers, identities."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from vp3d_cli.errors import InputError
from vp3d_cli.types import BoolArray, FloatArray

NO_ID = -1
_MAX_NUMBER = 1e15  # integers up to here are exact as floats


def any_along(mask: NDArray[np.bool_], axis: int | tuple[int, ...]) -> BoolArray:
    """``mask.any(axis)``, typed as the array that it is."""
    result: BoolArray = np.logical_or.reduce(mask, axis=axis)
    return result


def to_float32(values: NDArray[Any]) -> FloatArray:
    """The values in single precision; infinite where they are too large for it."""
    with np.errstate(over="ignore"):
        return np.asarray(values).astype(np.float32)


def parse_keypoints(where: object, values: object, columns: int = 3) -> NDArray[np.float32]:
    """Parse keypoints (J, columns) from a flat or nested list of numbers; null is NaN.

    Raises:
        InputError: no numbers, or not ``columns`` for each joint.
    """
    try:
        array = to_float32(np.asarray(values, np.float64))
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(f"{where}: keypoints are not numbers ({error}); write the file again") from error
    if array.size == 0 or array.size % columns or (array.ndim > 1 and array.shape[-1] != columns):
        raise InputError(
            f"{where}: expected {columns} numbers for each keypoint, got an array of shape {array.shape}; "
            "write the file again"
        )
    return array.reshape(-1, columns)


def parse_box(where: object, values: object, *, is_xywh: bool) -> tuple[float, float, float, float] | None:
    """Parse a box to x0, y0, x1, y1; None if there is none.

    Raises:
        InputError: not four numbers.
    """
    if values is None:
        return None
    try:
        numbers = np.asarray(values, np.float64).ravel()
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(f"{where}: the box is not numbers ({error}); write the file again") from error
    if numbers.size == 0:
        return None
    if numbers.size not in (4, 5):  # some write the score as a fifth
        raise InputError(f"{where}: a box has four numbers, got {numbers.size}; write the file again")
    x, y, a, b = numbers[:4].tolist()
    return (x, y, x + a, y + b) if is_xywh else (x, y, a, b)


def parse_number(where: object, value: object, what: str) -> float:
    """Parse a number; NaN for none. Some tools wrap it in a list.

    Raises:
        InputError: it is something else.
    """
    while isinstance(value, list) and value:
        value = value[0]
    if value is None or value == []:
        return float("nan")
    if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) > _MAX_NUMBER:
        raise InputError(f"{where}: {what} is not a number but {value!r}; write the file again")
    return float(value)


def parse_frame(where: object, value: object) -> int:
    """Parse a frame number.

    Raises:
        InputError: it is none.
    """
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < _MAX_NUMBER:
        raise InputError(f"{where}: {value!r} is no frame number; number frames from 0")
    return value


def parse_identity(where: object, value: object) -> int:
    """Parse an identity; ``NO_ID`` where the file has none, or a negative one, as tools without tracking write.

    Raises:
        InputError: it is no number.
    """
    number = parse_number(where, value, "identity")
    return int(number) if number >= 0 else NO_ID
