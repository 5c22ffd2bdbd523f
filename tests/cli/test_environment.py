"""``vp3d doctor``: which runtime and device do the work, and what to install; and errors of devices on one line."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import RunCli

from vp3d_cli.cli import environment
from vp3d_cli.cli.environment import Check
from vp3d_cli.runtime import devices, load
from vp3d_cli.runtime.base import Target


def rows(*parts: object) -> dict[str, Check]:
    return {check.name: check for part in parts for check in part()}  # type: ignore[operator]


def test_what_does_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "is_present", lambda target: target == Target("onnxruntime", "CPU"))
    found = rows(environment._targets)
    assert found["detection"] == Check("detection", "ok", "onnxruntime on CPU, f32")
    assert found["lifting"] == Check("lifting", "ok", "onnxruntime on CPU, f32")
    monkeypatch.setattr(load, "is_present", lambda target: False)
    failed = rows(environment._targets)["detection"]
    assert failed.status == "FAIL"
    assert "pip install openvino" in failed.detail


def test_nvidia_gpu_with_and_without_a_runtime_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "count_nvidia_gpus", lambda: 2)
    monkeypatch.setattr(environment, "is_present", lambda target: False)
    note = rows(environment._gpus)["gpu"]
    assert note.status == "note"
    assert note.detail == '2 from NVIDIA, not used; try: pip uninstall --yes onnxruntime; pip install "vp3d[cuda]"'
    monkeypatch.setattr(environment, "is_present", lambda target: target == Target("onnxruntime", "CUDA"))
    assert rows(environment._gpus)["gpu"] == Check("gpu", "ok", "2 from NVIDIA, used by onnxruntime")


def test_two_distributions_of_onnxruntime(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "_is_installed", lambda name: name in ("onnxruntime", "onnxruntime-gpu"))
    failed = rows(environment._runtimes)["onnxruntime"]
    assert failed.status == "FAIL"
    assert "onnxruntime and onnxruntime-gpu are installed over each other" in failed.detail
    assert "pip uninstall --yes onnxruntime onnxruntime-gpu" in failed.detail


def test_openvino_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "runtime_problem", lambda name: None if name != "openvino" else "not there")
    assert rows(environment._runtimes)["openvino"].detail == "not there; faster on CPUs: pip install openvino"


def test_gpus_are_counted_without_their_libraries(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 'GPU 0: A'\necho 'GPU 1: B'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert devices.count_nvidia_gpus() == 2
    for visible, count in (("1", 1), ("", 0), ("0,1,2", 2)):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        assert devices.count_nvidia_gpus() == count
    program.write_text("#!/bin/sh\nexit 9\n")
    assert devices.count_nvidia_gpus() == 0


@pytest.mark.parametrize(
    ("options", "variables", "words"),
    [
        (("--device", "cuda"), {}, "--device cuda: no runtime here has such a device"),
        (("--device", "npu"), {}, "--device npu: no runtime here has such a device"),
        (("--detector", "movenet:precision=f16"), {}, "unknown precision 'f16'; choose one of auto, f32, bf16"),
        ((), {"VP3D_RUNTIME": "tensorrt"}, "VP3D_RUNTIME=tensorrt: unknown runtime"),
        ((), {"VP3D_FFMPEG": "/nowhere/ffmpeg"}, "VP3D_FFMPEG=/nowhere/ffmpeg: no such program"),
    ],
)
def test_wrong_devices_are_one_line(
    options: tuple[str, ...],
    variables: dict[str, str],
    words: str,
    run_cli: RunCli,
    short_clip: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(load, "is_present", lambda target: target.device == "CPU")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    outcome = run_cli("infer", short_clip, "--out", tmp_path / "pose.npz", "--quiet", *options)
    assert outcome.code == 1, outcome
    assert len(outcome.error_lines) == 1
    assert words in outcome.stderr
    assert list(tmp_path.iterdir()) == []
