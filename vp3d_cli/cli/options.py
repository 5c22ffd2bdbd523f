"""Options for the inference settings, shared by all commands that use them."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from vp3d_cli.errors import ConfigError

if TYPE_CHECKING:
    from vp3d_cli.pipeline.settings import InferSettings

# Annotations of commands are read when they are defined, and this class loads numpy.
Settings: TypeAlias = "InferSettings"

Detector = Annotated[str, typer.Option(help="Detector of people and keypoints; list: vp3d detectors.")]
Lifter = Annotated[str, typer.Option(help="Weights that lift 2D to 3D; list: vp3d weights list.")]
Trajectory = Annotated[
    str | None,
    typer.Option(
        metavar="NAME|FILE",
        help="Weights of a root trajectory model.  [default: fit the pose to its keypoints]",
        show_default=False,
    ),
]
MaxPeople = Annotated[int | None, typer.Option(min=1, help="Most people to keep, main people first.  [default: all]")]
Person = Annotated[
    str | None,
    typer.Option(metavar="NUMBER|WORD", help="One person: number, largest, central or longest.", show_default=False),
]
Roi = Annotated[
    str | None,
    typer.Option(metavar="X,Y,W,H", help="Only people who are mostly in this region, pixels.", show_default=False),
]
KeepPartial = Annotated[
    bool, typer.Option("--keep-partial", help="Also lift people whose torso is hardly seen; most of them is guessed.")
]
Start = Annotated[str, typer.Option(metavar="TIME", help="Begin here: seconds, or 1:23.5.")]
End = Annotated[str | None, typer.Option(metavar="TIME", help="Stop here.  [default: the end]", show_default=False)]
CameraIntrinsics = Annotated[
    str | None,
    typer.Option(metavar="FX,FY,CX,CY", help="Camera intrinsics, pixels; or give --fov.", show_default=False),
]
Fov = Annotated[
    float | None, typer.Option(help="Field of view of the longer side, degrees.  [default: 60]", show_default=False)
]
Smooth = Annotated[str, typer.Option(metavar="STRENGTH|off", help="Smoothing strength: 1 is usual, more is smoother.")]
DetectEvery = Annotated[
    int, typer.Option(min=1, metavar="N", help="Run the detector on every Nth frame: faster, less exact.")
]
ChunkMinutes = Annotated[
    float | None,
    typer.Option(metavar="MINUTES", help="Detect chunks of this length in parallel.", show_default=False),
]
Height = Annotated[
    str | None,
    typer.Option(
        metavar="METRES|N=METRES,...",
        help="Height of the main person, or of people by number; sets the scale.  [default: about 1.7]",
        show_default=False,
    ),
]
Tta = Annotated[
    bool, typer.Option(help="Test-time augmentation: average with motion mirrored and backwards; 4 times the lifting.")
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, mps, gpu or npu.")]
Threads = Annotated[int | None, typer.Option(min=1, help="CPU threads.  [default: all]", show_default=False)]
Keypoints = Annotated[
    Path | None,
    typer.Option(metavar="FILE|FOLDER", help="2D keypoints from a file, in place of a detector.", show_default=False),
]
Layout = Annotated[
    str | None, typer.Option(help="Keypoint layout, such as coco17, where the file does not say.", show_default=False)
]
JointMap = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="For DeepLabCut: body part to COCO keypoint, TOML or JSON.", show_default=False),
]

KeypointsOnly = Annotated[bool, typer.Option("--keypoints-only", help="Write 2D keypoints only.")]
KeypointFormat = Annotated[
    str, typer.Option(help="Format for --keypoints-only: vp3d, coco or videopose3d.", metavar="NAME")
]


def make_settings(
    *,
    detector: Detector = "movenet",
    lifter: Lifter = "default",
    trajectory: Trajectory = None,
    max_people: MaxPeople = None,
    person: Person = None,
    roi: Roi = None,
    keep_partial: KeepPartial = False,
    start: Start = "0",
    end: End = None,
    intrinsics: CameraIntrinsics = None,
    fov: Fov = None,
    detect_every: DetectEvery = 1,
    chunk_minutes: ChunkMinutes = None,
    smooth: Smooth = "1",
    height: Height = None,
    tta: Tta = True,
    device: Device = "auto",
    keypoints: Keypoints = None,
    layout: Layout = None,
    joint_map: JointMap = None,
) -> Settings:
    """Create the settings from the command-line options.

    The parameters are the options that :func:`with_settings` gives to each command.

    Raises:
        typer.BadParameter: a value is invalid, or two contradict each other.
    """
    start_s = parse_seconds("--start", start)
    end_s = None if end is None else parse_seconds("--end", end)
    if end_s is not None and end_s <= start_s:
        raise typer.BadParameter("must be later than --start", param_hint="--end")
    smoothing = parse_strength("--smooth", smooth)
    camera = None if intrinsics is None else parse_four("--intrinsics", intrinsics, "FX,FY,CX,CY")
    region = None if roi is None else parse_four("--roi", roi, "X,Y,W,H")
    heights = None if height is None else parse_heights("--height", height)
    from vp3d_cli.pipeline.settings import InferSettings, SettingsError  # loads numpy: only once the options make sense

    try:
        return InferSettings(
            detector=detector,
            lifter=lifter,
            trajectory=trajectory,
            keypoints=None if keypoints is None else str(keypoints),
            layout=layout,
            joint_map=None if joint_map is None else str(joint_map),
            max_people=max_people,
            person=person,
            roi=region,
            keep_partial=keep_partial,
            start_s=start_s,
            end_s=end_s,
            intrinsics=camera,
            fov_deg=fov,
            detect_every=detect_every,
            chunk_minutes=chunk_minutes,
            smooth=smoothing,
            device=device,
            tta=tta,
            height_m=heights,
        )
    except SettingsError as error:
        raise typer.BadParameter(error.naming(flag_of)) from error
    except ConfigError as error:
        raise typer.BadParameter(str(error)) from error


def flag_of(field: str) -> str:
    """Return the command-line option of a settings field: ``--height`` for ``height_m``.

    Options have the names of their fields, without the unit.
    """
    options = inspect.signature(make_settings).parameters
    name = field if field in options else field.rpartition("_")[0]
    assert name in options, field
    return f"--{name.replace('_', '-')}"


# Options of the two halves of the pipeline: vp3d detect and vp3d lift.
DETECTION_OPTIONS = (
    "detector", "start", "end", "detect_every", "chunk_minutes", "device", "keypoints", "layout", "joint_map",
)  # fmt: skip
LIFTING_OPTIONS = (
    "lifter", "trajectory", "max_people", "person", "roi", "keep_partial", "intrinsics", "fov", "smooth", "height",
    "tta", "device",
)  # fmt: skip


def with_settings(*names: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Add options of :func:`make_settings` to a command with a parameter ``settings``.

    The parameter gets the resulting settings. If the command has a parameter with the name of one of the options, the
    option is as it is declared there, and both get its value.

    Args:
        names: parameters of :func:`make_settings`; none for all.
    """
    shared = {
        name: parameter
        for name, parameter in inspect.signature(make_settings, eval_str=True).parameters.items()
        if not names or name in names
    }

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        own = inspect.signature(command, eval_str=True).parameters
        both: dict[str, inspect.Parameter] = {}
        for name, parameter in own.items():
            if name == "settings":
                both.update({option: own.get(option, declared) for option, declared in shared.items()})
            else:
                both.setdefault(name, parameter)

        @functools.wraps(command)
        def run(**given: Any) -> None:
            settings = make_settings(**{option: given[option] for option in shared})
            command(**{name: settings if name == "settings" else given[name] for name in own})

        run.__dict__["__signature__"] = inspect.Signature(list(both.values()))  # what typer reads
        run.__annotations__ = {name: parameter.annotation for name, parameter in both.items()}
        return run

    return decorate


def parse_seconds(option: str, text: str) -> float:
    """Seconds out of ``12.5``, ``1:23.5`` or ``1:02:03``."""
    try:
        parts = [float(part) for part in text.split(":")]
    except ValueError:
        parts = []
    if not 1 <= len(parts) <= 3 or not all(0 <= part < float("inf") for part in parts):
        raise typer.BadParameter(f"invalid time {text!r}: use seconds (83.5) or min:sec (1:23.5)", param_hint=option)
    seconds = 0.0
    for part in parts:
        seconds = 60 * seconds + part
    return seconds


def parse_strength(option: str, text: str) -> float:
    """Strength of smoothing; ``off`` is 0."""
    try:
        strength = 0.0 if text == "off" else float(text)
    except ValueError:
        strength = -1.0
    if not 0 <= strength < float("inf"):
        raise typer.BadParameter(f"invalid strength {text!r}: use a number, or off", param_hint=option)
    return strength


def parse_four(option: str, text: str, names: str) -> tuple[float, float, float, float]:
    """Four numbers out of ``a,b,c,d``."""
    try:
        a, b, c, d = (float(part) for part in text.split(","))
    except ValueError:
        raise typer.BadParameter(
            f"{text!r} is not four numbers {names} in pixels, such as 1500,1500,960,540", param_hint=option
        ) from None
    return a, b, c, d


def parse_heights(option: str, text: str) -> float | dict[int, float]:
    """Metres out of ``1.82``, or metres by number of person out of ``1=1.82,2=1.45``."""
    try:
        if "=" not in text:
            return float(text)
        pairs = [part.split("=") for part in text.split(",")]
        return {int(person): float(metres) for person, metres in pairs}
    except ValueError:
        raise typer.BadParameter(
            f"invalid height {text!r}: use metres (1.82), or person=metres (1=1.82,2=1.45)", param_hint=option
        ) from None
