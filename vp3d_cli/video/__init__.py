"""Videos in and out: facts of a file, its frames with their true times, and encoding.

Read ``reader.py`` first. ``probe.py`` reads what a file says of itself and ``packets.py`` which frames it has,
``decode.py`` decodes (OpenCV, an ffmpeg pipe, or a folder of ``images.py``), ``threads.py`` has the queue between
threads, ``writer.py`` and ``encoder.py`` encode, ``ffmpeg.py`` finds and runs ffmpeg.
"""

from vp3d_cli.video.ffmpeg import find_ffmpeg
from vp3d_cli.video.probe import probe_video
from vp3d_cli.video.reader import VideoReader
from vp3d_cli.video.writer import VideoWriter

__all__ = ["VideoReader", "VideoWriter", "find_ffmpeg", "probe_video"]
