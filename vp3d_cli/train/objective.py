"""Losses that training minimizes, and errors that validation measures.

Dimensions: N windows, O output frames, K joints. Positions are in metres.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from vp3d_cli import metrics
from vp3d_cli.lift.input_rule import InputRule, decode_root
from vp3d_cli.skeletons import get_skeleton
from vp3d_cli.train.batch import Batch, UnlabelledBatch
from vp3d_cli.train.config import TrainConfig
from vp3d_cli.train.networks import predict
from vp3d_cli.train.reprojection import bone_length_loss, reprojection_error, root_from_keypoints, shared_joints

_VALIDATION_CHUNK = 256  # windows per forward pass, which bounds memory


def mpjpe_loss(predicted: Tensor, truth: Tensor) -> Tensor:
    """Mean distance between joints, (N, O, K, 3) (Pavllo et al. 2019, section 3)."""
    distance: Tensor = torch.linalg.vector_norm(predicted - truth, dim=-1)
    return distance.mean()


def velocity_loss(predicted: Tensor, truth: Tensor) -> Tensor:
    """Mean distance between joint displacements from frame to frame, (N, O >= 2, K, 3)."""
    return mpjpe_loss(predicted.diff(dim=1), truth.diff(dim=1))


def weighted_mpjpe_loss(predicted: Tensor, truth: Tensor) -> Tensor:
    """Mean distance of roots (N, O, 3), weighted by 1 / depth (Pavllo et al. 2019, eq. 1)."""
    distance: Tensor = torch.linalg.vector_norm(predicted - truth, dim=-1)
    return (distance / truth[..., 2]).mean()


class Objective:
    """Training loss and validation errors of a run.

    Args:
        config: configuration of the run.
        rule: input rule, with the skeletons of the data.
    """

    def __init__(self, config: TrainConfig, rule: InputRule) -> None:
        self._config, self._semi = config, config.semi
        self._shared = shared_joints(get_skeleton(rule.skeleton_2d), get_skeleton(rule.skeleton_3d))
        self._bones = get_skeleton(rule.skeleton_3d).bones

    def loss(self, model: nn.Module, batch: Batch, unlabelled: UnlabelledBatch | None, autocast: bool) -> Tensor:
        """Compute the loss of a step.

        Labelled and unlabelled windows pass the networks as one batch, so that batch norm sees both
        (Pavllo et al. 2019, figure 3).

        Args:
            model: the networks.
            batch: labelled windows.
            unlabelled: unlabelled windows; None during the warm-up and in supervised training.
            autocast: run the networks' matrix products in bfloat16.
        """
        features = batch.features if unlabelled is None else torch.cat([batch.features, unlabelled.features])
        with torch.autocast(features.device.type, dtype=torch.bfloat16, enabled=autocast):
            predicted = predict(model, features, self._config.train)
        predicted = predicted.to(batch.joints.dtype)
        labelled = predicted[: len(batch.features)]
        if self._config.model.task == "trajectory":
            return weighted_mpjpe_loss(_root(labelled, batch), batch.root)
        joints = labelled[:, :, :-1] if self._semi.on else labelled
        loss = mpjpe_loss(joints, batch.joints)
        if self._config.train.velocity_weight > 0:
            loss = loss + self._config.train.velocity_weight * velocity_loss(joints, batch.joints)
        if self._semi.on and self._semi.trajectory > 0:
            loss = loss + self._semi.trajectory * weighted_mpjpe_loss(_root(labelled, batch), batch.root)
        if unlabelled is not None:
            loss = loss + self._unlabelled_loss(predicted[len(batch.features) :], unlabelled, joints)
        return loss

    def _unlabelled_loss(self, predicted: Tensor, batch: UnlabelledBatch, labelled: Tensor) -> Tensor:
        joints, root, loss = predicted[:, :, :-1], _root(predicted, batch), predicted.new_zeros(())
        if self._semi.reprojection > 0 and self._semi.placed_by == "trajectory":
            loss = loss + self._semi.reprojection * reprojection_error(joints, root, batch, self._shared)
        elif self._semi.reprojection > 0:
            fitted = root_from_keypoints(joints, batch, self._shared)
            loss = loss + self._semi.reprojection * (
                reprojection_error(joints, fitted, batch, self._shared)
                + self._semi.trajectory * reprojection_error(joints.detach(), root, batch, self._shared)
            )
        if self._semi.bone_lengths > 0:
            # Compared with predictions, not labels: dropout lengthens predicted bones, in both halves alike.
            loss = loss + self._semi.bone_lengths * bone_length_loss(joints, labelled.detach(), self._bones)
        return loss

    @torch.inference_mode()
    def validate(
        self, model: nn.Module, labelled: Mapping[str, Batch], unlabelled: UnlabelledBatch | None = None
    ) -> dict[str, float]:
        """Measure errors on validation windows.

        Args:
            model: the networks, in evaluation mode.
            labelled: labelled windows by name: ``clean`` and ``detected`` keypoints of motion capture, or ``test``
                subjects of a data set.
            unlabelled: unlabelled windows.

        Returns:
            For each name ``_mpjpe``, ``_n`` and ``_p``: MPJPE, N-MPJPE and P-MPJPE in mm (no MPJPE for motion capture,
            whose body sizes are random); ``_root``: mean distance of the root in percent of its depth.
            ``reprojection``: error of the unlabelled windows in thousandths of the image width. ``score``: what the
            best model minimizes, N-MPJPE with simulated detections or MPJPE on test subjects.
        """
        row: dict[str, float] = {}
        task = self._config.model.task
        for name, batch in labelled.items():
            predicted = self._predict_in_chunks(model, batch.features)
            if task == "trajectory" or self._semi.on:
                row[f"{name}_root"] = 100 * weighted_mpjpe_loss(_root(predicted, batch), batch.root).item()
            if task == "pose":
                joints = predicted[:, :, :-1] if self._semi.on else predicted
                ours, truth = joints.cpu().numpy(), batch.joints.cpu().numpy()
                if name == "test":
                    row[f"{name}_mpjpe"] = float(1e3 * metrics.mpjpe(ours, truth).mean())
                row[f"{name}_n"] = float(1e3 * metrics.n_mpjpe(ours, truth).mean())
                row[f"{name}_p"] = float(1e3 * metrics.p_mpjpe(ours, truth).mean())
        if unlabelled is not None:
            predicted = self._predict_in_chunks(model, unlabelled.features)
            root = _root(predicted, unlabelled)
            error = reprojection_error(predicted[:, :, :-1], root, unlabelled, self._shared)
            row["reprojection"] = 500 * error.item()
        scores = ("detected_n", "test_mpjpe") if task == "pose" else ("detected_root", "test_root")
        row["score"] = next(row[name] for name in scores if name in row)
        return row

    def _predict_in_chunks(self, model: nn.Module, features: Tensor) -> Tensor:
        parts = [predict(model, part, self._config.train) for part in torch.split(features, _VALIDATION_CHUNK)]
        return torch.cat(parts)


def _root(predicted: Tensor, batch: Batch | UnlabelledBatch) -> Tensor:
    """(N, O, 3) root position out of the last output, which is that of the trajectory network."""
    root: Tensor = decode_root(predicted[:, :, -1], batch.centre, batch.spread)
    return root
