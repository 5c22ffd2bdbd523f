"""Read JSON from untrusted files: too deep or too long is a normal error."""

from __future__ import annotations

import json
from typing import Any

# No document of vp3d is nested deeper than 8; what prints or compares one goes down by recursion.
MAX_DEPTH = 64


def parse_json(text: str | bytes) -> Any:
    """Parse a JSON document.

    Raises:
        ValueError: it is not JSON, is nested deeper than :data:`MAX_DEPTH`, or holds a number of thousands of digits.
    """
    try:
        document = json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    level = [document]
    for _ in range(MAX_DEPTH):
        level = [part for value in level for part in _parts(value)]
        if not level:
            return document
    raise ValueError("nested too deeply")


def _parts(value: Any) -> list[Any]:
    """Return the lists and dicts directly in a value."""
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [part for part in inside if isinstance(part, dict | list)]
