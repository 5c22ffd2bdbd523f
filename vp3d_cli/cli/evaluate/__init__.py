"""``vp3d evaluate``: errors of lifted motion against ground truth."""

from vp3d_cli.cli.evaluate.command import evaluate

__all__ = ["evaluate"]
