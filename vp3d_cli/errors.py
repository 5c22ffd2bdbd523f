"""The tree of errors: everything that vp3d raises on purpose is a :class:`Vp3dError`.

A message says what went wrong, where, and what to try, on one line. The command line prints it and exits with
``exit_code``; library users catch the class that they can act on.
"""


class Vp3dError(Exception):
    """Base of all errors that vp3d raises on purpose."""

    exit_code = 1


class InputError(Vp3dError):
    """A file or value given by the user cannot be used."""


class VideoError(InputError):
    """A video is missing, unreadable, empty or broken."""


class PoseFileError(InputError):
    """A pose file is missing, broken, or not of a schema that vp3d reads."""


class OutputError(Vp3dError):
    """A result cannot be written: folder missing, file exists, disk full."""


class NobodyFoundError(Vp3dError):
    """The video was read to its end and no person was found in it."""

    exit_code = 3


class DetectorError(Vp3dError):
    """A detector failed in the middle of a video.

    Earlier detections may have been kept, so that a new run can resume.
    """


class StoppedError(Vp3dError):
    """Work was stopped because related work failed.

    Earlier detections may have been kept.
    """


class WeightsError(Vp3dError):
    """A weight file is missing, has the wrong hash, or does not fit the model."""


class MissingDependencyError(Vp3dError):
    """An optional package, program or device that was asked for is not there."""


class PluginError(Vp3dError):
    """A detector, lifter, exporter or keypoint reader of another package cannot be loaded."""


class ShapeError(Vp3dError, ValueError):
    """An array has the wrong shape; the message gives expected and actual."""


class ConfigError(Vp3dError):
    """Options that contradict each other or are out of range."""


class TrainingError(Vp3dError):
    """Training cannot start or go on."""
