"""The command ``vp3d evaluate``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vp3d_cli.cli import options
from vp3d_cli.cli.common import Overwrite, Quiet
from vp3d_cli.cli.evaluate.table import print_results, summary_of

if TYPE_CHECKING:
    from vp3d_cli.paper.published import Published
    from vp3d_cli.pipeline.settings import InferSettings


def evaluate(
    motion: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="PATH",
            help="Motion capture to evaluate on: archive, folder, BVH, AMC, pose file.",
            show_default=False,
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Prepared data set (vp3d data) to evaluate on with the paper's protocol.",
            show_default=False,
        ),
    ] = None,
    calibrated: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Clip with calibrated cameras and known joints to evaluate on.", show_default=False
        ),
    ] = None,
    truth: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Pose file to compare with.", show_default=False)
    ] = None,
    weights: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME|FILE", help="Lifter to evaluate; repeat to compare several.  [default: default]"),
    ] = None,
    video: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="Video of a calibrated camera; one per camera.", show_default=False),
    ] = None,
    pose: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="Pose file of vp3d infer, instead of a video.", show_default=False),
    ] = None,
    camera: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME", help="Camera of each video or pose file.  [default: the file's name]", show_default=False
        ),
    ] = None,
    dataset: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="human36m or humaneva.  [default: the lifter's]", show_default=False),
    ] = None,
    keypoints: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Keypoints of the data set, such as gt.  [default: those of the training]",
            show_default=False,
        ),
    ] = None,
    subjects: Annotated[
        str | None,
        typer.Option(metavar="A,B", help="Subjects of the data set.  [default: its test subjects]", show_default=False),
    ] = None,
    actions: Annotated[
        str | None,
        typer.Option(metavar="A,B", help="Actions of the data set.  [default: the standard ones]", show_default=False),
    ] = None,
    cameras: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Camera file of the data set, instead of the bundled one.", show_default=False
        ),
    ] = None,
    hold_out: Annotated[
        list[str] | None,
        typer.Option(
            metavar="REGEX", help="Clips to evaluate on.  [default: those held out of training]", show_default=False
        ),
    ] = None,
    by: Annotated[
        str | None,
        typer.Option(metavar="REGEX", help="Group clips by this part of their name.  [default: by source]"),
    ] = None,
    windows: Annotated[int, typer.Option(min=1, help="Number of poses to generate.")] = 2048,
    fps: Annotated[
        list[float] | None,
        typer.Option(
            metavar="RATE",
            help="Also evaluate whole shots at this frame rate; repeat to compare several.",
            show_default=False,
        ),
    ] = None,
    shots: Annotated[int, typer.Option(min=1, help="Number of 4 s shots for --fps.")] = 48,
    detector: options.Detector = "movenet",
    trajectory: options.Trajectory = None,
    fov: Annotated[
        float | None,
        typer.Option(help="Field of view in degrees, instead of the calibration.", show_default=False),
    ] = None,
    smooth: options.Smooth = "1",
    height: options.Height = None,
    tta: options.Tta = True,
    device: options.Device = "auto",
    json_out: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Also write all scores as JSON.", show_default=False)
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Also plot the error of each joint (.png).", show_default=False),
    ] = None,
    quiet: Quiet = False,
    overwrite: Overwrite = False,
) -> None:
    """Measure errors against ground truth.

    \b
    vp3d evaluate --motion mocap.npz --weights pose-27 --weights mine.safetensors
    vp3d evaluate --motion mocap.npz --fps 24 --fps 30 --fps 60
    vp3d evaluate --data data/ --weights pretrained_h36m_cpn --keypoints cpn_ft_h36m_dbb
    vp3d evaluate --calibrated beam_gt.npz --video cam01.mp4 --video cam02.mp4
    vp3d evaluate --calibrated beam_gt.npz --camera cam01 --pose pose.npz
    vp3d evaluate --truth truth.npz --pose pose.npz --json scores.json --plot joints.png

    Errors are in millimetres, PCK and AUC in percent; docs/evaluation.md defines each score.
    """
    if sum(given is not None for given in (motion, data, calibrated, truth)) != 1:
        raise typer.BadParameter("give one of --motion, --data, --calibrated and --truth")
    if data is None:
        of_dataset = {"dataset": dataset, "keypoints": keypoints, "subjects": subjects, "actions": actions}
        reject("this ground truth, only with --data", **of_dataset, cameras=cameras)
    settings = options.make_settings(
        detector=detector, trajectory=trajectory, fov=fov, smooth=smooth, height=height, tta=tta, device=device
    )
    from vp3d_cli.cli.evaluate.ground_truth import on_calibrated_clip, on_dataset, on_motion_capture, on_pose_file
    from vp3d_cli.cli.progress import StageProgress
    from vp3d_cli.io.atomic import check_target

    for target in (json_out, plot):
        if target is not None:
            check_target(target, overwrite)
    lifters = weights or ["default"]
    published: dict[str, Published] = {}
    with StageProgress(quiet) as progress:
        if motion is not None:
            reject("--motion", video=video, pose=pose, camera=camera)
            results = on_motion_capture(
                motion, lifters, hold_out or [], by, windows, fps or [], shots, settings, progress
            )
        elif data is not None:
            reject("--data", video=video, pose=pose, camera=camera, hold_out=hold_out, by=by, fps=fps)
            from vp3d_cli.paper.evaluation import DatasetProtocol

            sets = (_names(subjects), _names(actions))
            protocol = DatasetProtocol(
                data, dataset or "", keypoints or "", *sets, flip_test=settings.tta, cameras=str(cameras or "")
            )
            results, published = on_dataset(protocol, lifters, settings.device, progress, quiet)
        elif calibrated is not None:
            reject("--calibrated", hold_out=hold_out, by=by, fps=fps)
            if pose:
                reject("--pose", weights=weights)
            results = on_calibrated_clip(calibrated, camera, video or [], pose or [], lifters, settings, progress)
        else:
            reject("--truth", video=video, camera=camera, hold_out=hold_out, by=by, fps=fps, weights=weights)
            assert truth is not None
            results = on_pose_file(truth, pose or [])
    print_results(results, published)
    if json_out is not None:
        from vp3d_cli.evaluate.report import write_json

        content = describe(motion, data, calibrated, truth, settings)
        if data is not None:
            content["published"] = {name: asdict(row) for name, row in published.items()}
        write_json(json_out, results, content, overwrite)
    if plot is not None:
        from vp3d_cli.evaluate.report import plot_joints

        plot_joints(plot, {name: summary_of(scores) for name, scores in results.items()}, overwrite)


def _names(text: str | None) -> tuple[str, ...]:
    return tuple(name.strip() for name in (text or "").split(",") if name.strip())


def reject(ground_truth: str, **given: object) -> None:
    """Reject options that have no effect with this kind of ground truth.

    Raises:
        typer.BadParameter: one of them is given.
    """
    for name, value in given.items():
        if value is not None:
            raise typer.BadParameter(f"--{name.replace('_', '-')} has no effect with {ground_truth}")


def describe(
    motion: Sequence[Path] | None,
    data: Path | None,
    calibrated: Path | None,
    truth: Path | None,
    settings: InferSettings,
) -> dict[str, Any]:
    """Describe the inputs and settings of the evaluation, for the JSON file."""
    from vp3d_cli import __version__

    sources: Mapping[str, Any] = {
        "motion": [str(path) for path in motion or []],
        "data": data and str(data),
        "calibrated": calibrated and str(calibrated),
        "truth": truth and str(truth),
    }
    return {"version": __version__, **{k: v for k, v in sources.items() if v}, "settings": asdict(settings)}
