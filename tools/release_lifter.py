"""Put a trained lifter into ``weights/``, in few bytes, with its manifest entry (for developers, after a training run).

python tools/release_lifter.py runs/pose-27/best.safetensors pose-27
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import get_args

from vp3d_cli.lift.checkpoint import Storage, load_lifter_file, save_lifter
from vp3d_cli.weights import add_to_manifest

WEIGHTS = Path(__file__).resolve().parent.parent / "weights"


def main() -> None:
    """Convert, copy, enter."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("lifter", type=Path, help="best.safetensors of a run")
    parser.add_argument("name", help="what --lifter will call it")
    parser.add_argument("--trained-on", default="motion capture: Bandai Namco, CMU, DeepMimic (see the model card)")
    parser.add_argument("--storage", choices=get_args(Storage), default="int8", help="how numbers are stored")
    arguments = parser.parse_args()
    model, info = load_lifter_file(arguments.lifter)
    data = info.training["data"]
    names = [Path(path).name for path in data["motion"]]  # where it lay here helps nobody
    info = dataclasses.replace(info, training={**info.training, "data": {**data, "motion": names}})
    file = f"{arguments.name}.safetensors"
    save_lifter(WEIGHTS / file, model, info, storage=arguments.storage)
    entry = add_to_manifest(
        WEIGHTS,
        file,
        arguments.name,
        kind=info.task,
        licence=info.licence,
        source="trained by vp3d train; the whole configuration is in the file",
        trained_on=arguments.trained_on,
    )
    print(f"{entry.name}: {entry.bytes:,} bytes, sha256 {entry.sha256}")


if __name__ == "__main__":
    main()
