"""Detector weights by file path or by name in the manifests (``vp3d weights list``)."""

from __future__ import annotations

from pathlib import Path

from vp3d_cli.errors import WeightsError
from vp3d_cli.weights import WeightFile, find_weights, list_weights, sha256_of


def find_detector_weights(weights: str, hint: str) -> WeightFile:
    """Find weights by file path, or by name in the manifests with a check of the hash.

    Args:
        weights: path of a file, or name in the manifests.
        hint: advice for the error message if there is no such file or name.

    Raises:
        WeightsError: neither a file nor a known name, or the file is damaged.
    """
    path = Path(weights).expanduser()
    if path.is_file():
        return WeightFile(
            name=path.name,
            path=path,
            sha256=sha256_of(path),
            bytes=path.stat().st_size,
            kind="detector",
            licence="unknown",
            source=str(path),
            trained_on="unknown",
            bundled=False,
        )
    if any(entry.name == weights for entry in list_weights()):
        return find_weights(weights)
    raise WeightsError(f"no weights {weights!r}: neither a file nor a name in vp3d weights list; {hint}")
