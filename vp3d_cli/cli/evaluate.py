"""``vp3d evaluate``: how far motion is from the truth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vp3d_cli.cli import options
from vp3d_cli.cli.common import Overwrite, Quiet
from vp3d_cli.cli.evaluate_table import Results, print_results, summary_of

if TYPE_CHECKING:
    from vp3d_cli.cli.progress import StageProgress
    from vp3d_cli.evaluate.scores import Scores
    from vp3d_cli.paper.published import Published
    from vp3d_cli.pipeline.settings import InferSettings


def evaluate(
    motion: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="PATH", help="Examine on motion capture: archive, folder, BVH, AMC, pose file.", show_default=False
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Examine on a prepared data set (vp3d data), as the paper does.", show_default=False
        ),
    ] = None,
    calibrated: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Examine on a clip with known cameras and joints.", show_default=False),
    ] = None,
    truth: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Examine against another pose file.", show_default=False)
    ] = None,
    weights: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME|FILE", help="A lifter; several are compared.  [default: default]"),
    ] = None,
    video: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="What a calibrated camera filmed; one for each.", show_default=False),
    ] = None,
    pose: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="Pose file made by vp3d infer, instead of a video.", show_default=False),
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
            help="Of the data set: gt, cpn_ft_h36m_dbb, ...  [default: those trained on]",
            show_default=False,
        ),
    ] = None,
    subjects: Annotated[
        str | None,
        typer.Option(metavar="A,B", help="Of the data set.  [default: its test subjects]", show_default=False),
    ] = None,
    actions: Annotated[
        str | None, typer.Option(metavar="A,B", help="Of the data set.  [default: the usual ones]", show_default=False)
    ] = None,
    cameras: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Cameras of the data set, instead of ours.", show_default=False)
    ] = None,
    hold_out: Annotated[
        list[str] | None,
        typer.Option(
            metavar="REGEX", help="Clips to examine on.  [default: what the weights held out]", show_default=False
        ),
    ] = None,
    by: Annotated[
        str | None,
        typer.Option(metavar="REGEX", help="Group clips by this part of their name.  [default: by source]"),
    ] = None,
    windows: Annotated[int, typer.Option(min=1, help="Poses to draw from the motions.")] = 2048,
    fps: Annotated[
        list[float] | None,
        typer.Option(
            metavar="RATE",
            help="Also examine whole shots at this frame rate; several are compared.",
            show_default=False,
        ),
    ] = None,
    shots: Annotated[int, typer.Option(min=1, help="Shots of 4 s to draw for --fps.")] = 48,
    detector: options.Detector = "movenet",
    trajectory: options.Trajectory = None,
    fov: Annotated[
        float | None,
        typer.Option(help="Field of view, degrees, instead of the calibration's.", show_default=False),
    ] = None,
    smooth: options.Smooth = "1",
    height: options.Height = 1.7,
    tta: options.Tta = True,
    device: options.Device = "auto",
    json_out: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Also write every figure.", show_default=False)
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Also draw the error of each joint (.png).", show_default=False),
    ] = None,
    quiet: Quiet = False,
    overwrite: Overwrite = False,
) -> None:
    """Measure how far lifted motion is from the truth.

    \b
    vp3d evaluate --motion mocap.npz --weights pose-27 --weights mine.safetensors
    vp3d evaluate --motion mocap.npz --fps 24 --fps 30 --fps 60
    vp3d evaluate --data data/ --weights pretrained_h36m_cpn --keypoints cpn_ft_h36m_dbb
    vp3d evaluate --calibrated beam_gt.npz --video cam01.mp4 --video cam02.mp4
    vp3d evaluate --calibrated beam_gt.npz --camera cam01 --pose pose.npz
    vp3d evaluate --truth truth.npz --pose pose.npz --json scores.json --plot joints.png

    Errors are millimetres, PCK and AUC percent; docs/evaluation.md says exactly what each one is.
    """
    if sum(given is not None for given in (motion, data, calibrated, truth)) != 1:
        raise typer.BadParameter("give one of --motion, --data, --calibrated and --truth")
    if data is None:
        form = "this form; it belongs to --data"
        refuse(form, dataset=dataset, keypoints=keypoints, subjects=subjects, actions=actions, cameras=cameras)
    settings = options.make_settings(
        detector=detector, trajectory=trajectory, fov=fov, smooth=smooth, height=height, tta=tta, device=device
    )
    from vp3d_cli.cli.progress import StageProgress
    from vp3d_cli.io.atomic import check_target

    for target in (json_out, plot):
        if target is not None:
            check_target(target, overwrite)
    lifters = weights or ["default"]
    published: dict[str, Published] = {}
    with StageProgress(quiet) as progress:
        if motion is not None:
            refuse("--motion", video=video, pose=pose, camera=camera)
            results = on_motion(motion, lifters, hold_out or [], by, windows, fps or [], shots, settings, progress)
        elif data is not None:
            refuse("--data", video=video, pose=pose, camera=camera, hold_out=hold_out, by=by, fps=fps)
            from vp3d_cli.cli.evaluate_dataset import make_exam, on_dataset

            exam = make_exam(
                data,
                settings,
                dataset=dataset,
                keypoints=keypoints,
                subjects=subjects,
                actions=actions,
                cameras=cameras,
            )
            results, published = on_dataset(exam, lifters, settings.device, progress, quiet)
        elif calibrated is not None:
            refuse("--calibrated", hold_out=hold_out, by=by, fps=fps)
            if pose:
                refuse("--pose", weights=weights)
            results = on_clip(calibrated, camera, video or [], pose or [], lifters, settings, progress)
        else:
            refuse("--truth", video=video, camera=camera, hold_out=hold_out, by=by, fps=fps, weights=weights)
            assert truth is not None
            results = against(truth, pose or [])
    print_results(results, published)
    if json_out is not None:
        from vp3d_cli.evaluate.report import write_json

        content = about(motion, data, calibrated, truth, settings)
        content.update(
            {"published": {name: asdict(row) for name, row in published.items()}} if data is not None else {}
        )
        write_json(json_out, results, content, overwrite)
    if plot is not None:
        from vp3d_cli.evaluate.report import plot_joints

        plot_joints(plot, {name: summary_of(scores) for name, scores in results.items()}, overwrite)


def refuse(form: str, **given: object) -> None:
    """Options that mean nothing with this form.

    Raises:
        typer.BadParameter: one of them was given.
    """
    for name, value in given.items():
        if value is not None:
            raise typer.BadParameter(f"--{name.replace('_', '-')} means nothing with {form}")


def on_motion(
    motion: Sequence[Path],
    lifters: Sequence[str],
    hold_out: Sequence[str],
    by: str | None,
    windows: int,
    fps: Sequence[float],
    shots: int,
    settings: InferSettings,
    progress: StageProgress,
) -> Results:
    """Scores on motion capture that the lifters were not trained on."""
    from vp3d_cli.evaluate.holdout import HoldOut, evaluate_shots, evaluate_windows, held_out_clips

    exam = HoldOut(held_out_clips(motion, lifters, hold_out), windows, by, settings.tta)
    results: Results = {}
    for lifter in lifters:
        results[lifter] = evaluate_windows(lifter, exam, progress)
        if fps:
            results[lifter] += evaluate_shots(lifter, exam, fps, shots, settings, progress)
    return results


def on_clip(
    calibrated: Path,
    cameras: Sequence[str] | None,
    videos: Sequence[Path],
    poses: Sequence[Path],
    lifters: Sequence[str],
    settings: InferSettings,
    progress: StageProgress,
) -> Results:
    """Scores on a calibrated clip: of each lifter for videos, of the files for pose files."""
    from vp3d_cli.evaluate.calibrated import evaluate_calibrated, read_calibrated
    from vp3d_cli.io.poses.npz import read_npz

    if bool(videos) == bool(poses):
        raise typer.BadParameter("--calibrated needs --video or --pose")
    files = [*videos, *poses]
    names = list(cameras) if cameras else [file.stem for file in files]
    if len(names) != len(files):
        raise typer.BadParameter(f"{len(names)} cameras for {len(files)} files", param_hint="--camera")
    views = [read_calibrated(calibrated, name) for name in names]
    if poses:
        scores = [evaluate_calibrated(read_npz(file), view) for file, view in zip(poses, views, strict=True)]
        return {"pose files" if len(poses) > 1 else str(poses[0]): with_mean(scores)}
    from vp3d_cli.evaluate.video import evaluate_video

    per_video = [
        evaluate_video(file, view, lifters, settings, progress) for file, view in zip(videos, views, strict=True)
    ]
    return {lifter: with_mean([scores[i] for scores in per_video]) for i, lifter in enumerate(lifters)}


def against(truth: Path, poses: Sequence[Path]) -> Results:
    """Scores of pose files against another."""
    from vp3d_cli.evaluate.pair import evaluate_pair
    from vp3d_cli.io.poses.npz import read_npz

    if not poses:
        raise typer.BadParameter("--truth needs --pose, the file to examine")
    wanted = read_npz(truth)
    return {str(pose): with_mean(evaluate_pair(read_npz(pose), wanted)) for pose in poses}


def with_mean(scores: Sequence[Scores]) -> list[Scores]:
    """Several cases, and their mean."""
    from vp3d_cli.evaluate.scores import mean_scores

    return [*scores, mean_scores("mean", scores)] if len(scores) > 1 else list(scores)


def about(
    motion: Sequence[Path] | None,
    data: Path | None,
    calibrated: Path | None,
    truth: Path | None,
    settings: InferSettings,
) -> dict[str, Any]:
    """What was examined on what, for the JSON file."""
    from vp3d_cli import __version__

    sources: Mapping[str, Any] = {
        "motion": [str(path) for path in motion or []],
        "data": data and str(data),
        "calibrated": calibrated and str(calibrated),
        "truth": truth and str(truth),
    }
    return {"version": __version__, **{k: v for k, v in sources.items() if v}, "settings": asdict(settings)}
