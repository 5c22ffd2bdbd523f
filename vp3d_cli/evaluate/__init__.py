"""Evaluation of motion against ground truth."""

from vp3d_cli.evaluate.calibrated import CalibratedView, evaluate_calibrated, read_calibrated
from vp3d_cli.evaluate.scores import Scores, mean_scores, score_motion

__all__ = ["CalibratedView", "Scores", "evaluate_calibrated", "mean_scores", "read_calibrated", "score_motion"]
