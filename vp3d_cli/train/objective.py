"""What a run minimizes, and what it is judged by."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from vp3d_cli import metrics
from vp3d_cli.lift.input_rule import InputRule, decode_root
from vp3d_cli.skeletons import get_skeleton
from vp3d_cli.train import losses
from vp3d_cli.train.batch import Batch, Unlabelled
from vp3d_cli.train.config import TrainConfig
from vp3d_cli.train.networks import answer
from vp3d_cli.train.reprojection import bone_length_difference, fitted_root, reprojection, shared_joints

_VALIDATED_AT_ONCE = 256


class Objective:
    """The loss of a batch, and the errors on an examination.

    Args:
        config: of the run.
        rule: input rule, with the skeletons of the data.
    """

    def __init__(self, config: TrainConfig, rule: InputRule) -> None:
        self._config, self._semi = config, config.semi
        self._shared = shared_joints(get_skeleton(rule.skeleton_2d), get_skeleton(rule.skeleton_3d))
        self._bones = get_skeleton(rule.skeleton_3d).bones

    def loss(self, model: nn.Module, batch: Batch, seen: Unlabelled | None, autocast: bool) -> Tensor:
        """The loss of a step.

        Labelled and unlabelled windows go through the networks as one batch, so that batch norm sees both
        (Pavllo et al. 2019, figure 3).

        Args:
            model: the networks.
            batch: labelled windows.
            seen: unlabelled windows; None while they are left out.
            autocast: whether the networks' matrix products run in bfloat16.
        """
        features = batch.features if seen is None else torch.cat([batch.features, seen.features])
        with torch.autocast(features.device.type, dtype=torch.bfloat16, enabled=autocast):
            predicted = answer(model, features, self._config.train)
        predicted = predicted.to(batch.joints.dtype)
        labelled = predicted[: len(batch.features)]
        if self._config.model.task == "trajectory":
            return losses.weighted_mpjpe(_root(labelled, batch), batch.root)
        joints = labelled[:, :, :-1] if self._semi.on else labelled
        loss = losses.mpjpe(joints, batch.joints)
        if self._config.train.velocity_weight > 0:
            loss = loss + self._config.train.velocity_weight * losses.velocity(joints, batch.joints)
        if self._semi.on and self._semi.trajectory > 0:
            loss = loss + self._semi.trajectory * losses.weighted_mpjpe(_root(labelled, batch), batch.root)
        if seen is not None:
            loss = loss + self._unlabelled(predicted[len(batch.features) :], seen, joints)
        return loss

    def _unlabelled(self, predicted: Tensor, seen: Unlabelled, labelled: Tensor) -> Tensor:
        joints, root, loss = predicted[:, :, :-1], _root(predicted, seen), predicted.new_zeros(())
        if self._semi.reprojection > 0 and self._semi.placed_by == "trajectory":
            loss = loss + self._semi.reprojection * reprojection(joints, root, seen, self._shared)
        elif self._semi.reprojection > 0:
            fitted = fitted_root(joints, seen, self._shared)
            loss = loss + self._semi.reprojection * (
                reprojection(joints, fitted, seen, self._shared)
                + self._semi.trajectory * reprojection(joints.detach(), root, seen, self._shared)
            )
        if self._semi.bone_lengths > 0:
            # Against predictions, not labels: dropout lengthens what is predicted, in both halves alike.
            loss = loss + self._semi.bone_lengths * bone_length_difference(joints, labelled.detach(), self._bones)
        return loss

    @torch.inference_mode()
    def examine(self, model: nn.Module, exam: Mapping[str, Batch], seen: Unlabelled | None = None) -> dict[str, float]:
        """Errors on held-out windows.

        Args:
            model: the networks, in evaluation mode.
            exam: labelled windows by name: ``clean`` and ``detected`` keypoints of motions, ``test`` subjects of a
                data set.
            seen: unlabelled windows.

        Returns:
            For each name ``_mpjpe``, ``_n`` and ``_p``: MPJPE, N-MPJPE and P-MPJPE in mm (no MPJPE for motions, whose
            bodies are of made-up sizes); ``_root``: mean distance of the root in percent of its depth.
            ``reprojection``: of the unlabelled windows, in thousandths of the image's width. ``score`` is what the
            best model has least of: N-MPJPE with simulated detections, or MPJPE on test subjects.
        """
        row: dict[str, float] = {}
        task = self._config.model.task
        for name, batch in exam.items():
            predicted = self._answers(model, batch.features)
            if task == "trajectory" or self._semi.on:
                row[f"{name}_root"] = 100 * losses.weighted_mpjpe(_root(predicted, batch), batch.root).item()
            if task == "pose":
                joints = predicted[:, :, :-1] if self._semi.on else predicted
                ours, truth = joints.cpu().numpy(), batch.joints.cpu().numpy()
                if name == "test":
                    row[f"{name}_mpjpe"] = float(1e3 * metrics.mpjpe(ours, truth).mean())
                row[f"{name}_n"] = float(1e3 * metrics.n_mpjpe(ours, truth).mean())
                row[f"{name}_p"] = float(1e3 * metrics.p_mpjpe(ours, truth).mean())
        if seen is not None:
            predicted = self._answers(model, seen.features)
            away = reprojection(predicted[:, :, :-1], _root(predicted, seen), seen, self._shared)
            row["reprojection"] = 500 * away.item()
        scores = ("detected_n", "test_mpjpe") if task == "pose" else ("detected_root", "test_root")
        row["score"] = next(row[name] for name in scores if name in row)
        return row

    def _answers(self, model: nn.Module, features: Tensor) -> Tensor:
        parts = [answer(model, part, self._config.train) for part in torch.split(features, _VALIDATED_AT_ONCE)]
        return torch.cat(parts)


def _root(predicted: Tensor, batch: Batch | Unlabelled) -> Tensor:
    """(N, O, 3) where the trajectory network, which answers last, puts the root."""
    root: Tensor = decode_root(predicted[:, :, -1], batch.centre, batch.spread)
    return root
