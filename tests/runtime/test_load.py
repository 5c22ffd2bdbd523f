"""Loading networks on the runtimes: the same answers on each, requests in flight, and what cannot be loaded."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from vp3d_cli.detect.crops import SquareCrop
from vp3d_cli.detect.movenet.model import SinglePose
from vp3d_cli.errors import ConfigError, MissingDependencyError, WeightsError
from vp3d_cli.runtime import compiled_cache, load, onnxruntime_model, openvino_model
from vp3d_cli.runtime.base import Array, LoadOptions, Model, Target
from vp3d_cli.runtime.compiled_cache import cache_folder
from vp3d_cli.runtime.devices import DEVICES
from vp3d_cli.runtime.load import RUNTIMES, describe, find_target, load_model, load_weights, resolve_precision
from vp3d_cli.weights import find_weights

DEMO = Path(__file__).resolve().parents[2] / "examples" / "demo.mp4"
# Around the man of the example in its first second; he is 330 pixels tall.
MAN = SquareCrop(655, 290, 420)


@pytest.fixture(params=RUNTIMES)
def runtime(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each runtime in turn, as ``VP3D_RUNTIME`` chooses it."""
    monkeypatch.setenv("VP3D_RUNTIME", request.param)
    return str(request.param)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder for what vp3d keeps."""
    monkeypatch.setenv("VP3D_CACHE", str(tmp_path / "home"))
    return tmp_path / "home"


def doubling(length: int | str = "n", *, factor: float = 2.0) -> bytes:
    """A network that multiplies (length, 3) numbers by a factor, twice."""
    nodes = [
        helper.make_node("Mul", ["x", "factor"], ["once"]),
        helper.make_node("Mul", ["once", "factor"], ["twice"]),
    ]
    shapes = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [length, 3]) for name in ("x", "once", "twice")]
    weights = [numpy_helper.from_array(np.array([factor], np.float32), "factor")]
    graph = helper.make_graph(nodes, "doubling", shapes[:1], shapes[1:], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


def frames(count: int, every: int = 5) -> list[np.ndarray]:
    capture = cv2.VideoCapture(str(DEMO))
    read = [capture.read()[1] for _ in range(count * every)]
    capture.release()
    return read[::every]


def keypoints_of(monkeypatch: pytest.MonkeyPatch, chosen: str, precision: str) -> np.ndarray:
    """(N, 17, 2) pixels: what Thunder finds in the example on a runtime."""
    monkeypatch.setenv("VP3D_RUNTIME", chosen)
    network = SinglePose("movenet-thunder", "cpu", precision=precision)
    people = [network(image, MAN) for image in frames(8)]
    seen = np.stack([person.scores for person in people]) > 0.3
    return np.where(seen[..., None], np.stack([person.keypoints for person in people]), np.nan)


def test_keypoints_are_the_same_on_each_runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = (keypoints_of(monkeypatch, name, "f32") for name in RUNTIMES)
    distance = np.linalg.norm(ours - theirs, axis=-1)
    assert np.nanpercentile(distance, 95) < 1.0
    assert np.nanmedian(distance) < 0.1


def test_keypoints_in_bf16_are_close(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VP3D_RUNTIME", "openvino")
    if resolve_precision(Target("openvino", "CPU")) != "bf16":
        pytest.skip("this CPU does not compute in bf16")
    exact, short = (keypoints_of(monkeypatch, "openvino", precision) for precision in ("f32", "bf16"))
    distance = np.linalg.norm(exact - short, axis=-1)
    # The network sees one pixel for every 1.6 of the image.
    assert 0 < np.nanmedian(distance) < 0.8
    assert np.nanpercentile(distance, 95) < 3.2


def test_ports_and_description(runtime: str, home: Path) -> None:
    model = load_model(doubling(), "doubling", "cpu", precision="f32")
    assert [(port.name, port.shape) for port in model.inputs] == [("x", (None, 3))]
    assert [(port.name, port.shape) for port in model.outputs] == [("once", (None, 3)), ("twice", (None, 3))]
    assert describe(model) == {"runtime": runtime, "device": "CPU", "precision": "f32"}
    assert str(model.target) == f"{runtime} on CPU"
    model.expect([(None, 3)], [(None, 3), (None, None)], "a doubling network")
    with pytest.raises(
        WeightsError, match=r"weights doubling: not a tripling one; inputs are \?x3, outputs \?x3, \?x3"
    ):
        model.expect([(3, 3)], [(None, 3), (None, 3)], "a tripling one")


@pytest.mark.parametrize("requests", [1, 2, 3])
def test_many_requests_are_answered_in_any_order(runtime: str, home: Path, requests: int) -> None:
    model = load_model(doubling(), "doubling", "cpu", precision="f32", requests=requests)
    inputs = [np.full((length, 3), length, np.float32) for length in (1, 2, 5, 3, 2, 7, 4)]
    started = [model.start(array) for array in inputs]
    for array, request in reversed(list(zip(inputs, started, strict=True))):
        once, twice = request.result()
        np.testing.assert_array_equal(once, array * 2)
        np.testing.assert_array_equal(twice, array * 4)
    np.testing.assert_array_equal(started[0].result()[1], inputs[0] * 4)  # asked again


def test_results_stay_as_they_were(runtime: str, home: Path) -> None:
    """An answer is not overwritten by the next run, and the input may be reused as soon as the run has ended."""
    model = load_model(doubling(2), "doubling", "cpu", precision="f32")
    array = np.ones((2, 3), np.float32)
    first = model.run(array)
    array[:] = 5
    second = model.run(array)
    assert first[0].tolist() == [[2] * 3] * 2
    assert second[0].tolist() == [[10] * 3] * 2


def test_input_that_does_not_fit(runtime: str, home: Path) -> None:
    model = load_model(doubling(2), "doubling", "cpu", precision="f32")
    with pytest.raises(WeightsError, match="weights doubling: ") as caught:
        model.run(np.ones((3, 4), np.float32))
    assert "\n" not in str(caught.value)
    assert model.run(np.ones((2, 3), np.float32))[0].sum() == 12  # and it goes on working
    with pytest.raises(WeightsError, match="weights doubling"):
        model.run(np.ones((2, 3), np.float32), np.ones((2, 3), np.float32))


# --- what is chosen ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("device", "present", "chosen"),
    [
        ("auto", {"openvino CPU", "onnxruntime CPU"}, "openvino on CPU"),
        ("auto", {"openvino CPU", "onnxruntime CPU", "onnxruntime CUDA"}, "onnxruntime on CUDA"),
        ("auto", {"onnxruntime CPU", "onnxruntime CoreML"}, "onnxruntime on CPU"),
        ("cpu", {"openvino CPU", "onnxruntime CPU", "onnxruntime CUDA"}, "openvino on CPU"),
        ("cpu", {"onnxruntime CPU"}, "onnxruntime on CPU"),
        ("mps", {"openvino CPU", "onnxruntime CoreML"}, "onnxruntime on CoreML"),
        ("gpu", {"openvino GPU", "openvino CPU", "onnxruntime DirectML"}, "openvino on GPU"),
        ("gpu", {"openvino CPU", "onnxruntime DirectML"}, "onnxruntime on DirectML"),
        ("npu", {"openvino CPU", "openvino NPU"}, "openvino on NPU"),
    ],
)
def test_choice(device: str, present: set[str], chosen: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "is_present", lambda target: f"{target.runtime} {target.device}" in present)
    assert str(find_target(device)) == chosen


@pytest.mark.parametrize("device", DEVICES)
def test_no_runtime_at_all(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "is_present", lambda target: False)
    with pytest.raises(MissingDependencyError, match=r"pip install") as caught:
        load_model(doubling(), "doubling", device)
    assert "\n" not in str(caught.value)


def test_a_gpu_that_does_not_work_is_passed_over_only_by_auto(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    real = load._load

    def without_gpu(data: bytes, name: str, target: Target, options: LoadOptions) -> Model:
        if target.device == "CUDA":
            raise MissingDependencyError("onnxruntime has CUDA but found no usable GPU")
        return real(data, name, target, options)

    monkeypatch.setattr(load, "is_present", lambda target: target.device in ("CPU", "CUDA"))
    monkeypatch.setattr(load, "_load", without_gpu)
    assert load_model(doubling(), "doubling", "auto").target == Target("openvino", "CPU")
    with pytest.raises(MissingDependencyError, match="no usable GPU"):
        load_model(doubling(), "doubling", "cuda")


def test_cuda_provider_without_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """onnxruntime falls back to the CPU without an error; vp3d does not."""
    monkeypatch.setitem(onnxruntime_model.PROVIDERS, "CUDA", "NoSuchExecutionProvider")
    with (
        pytest.warns(UserWarning, match="NoSuchExecutionProvider"),
        pytest.raises(MissingDependencyError, match="has CUDA but found no usable GPU; check the driver"),
    ):
        onnxruntime_model.OnnxRuntimeModel(doubling(), "doubling", Target("onnxruntime", "CUDA"), LoadOptions("f32", 1))


def test_unknown_words(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="unknown device 'tpu'; choose one of auto, cpu, cuda, mps, gpu, npu"):
        load_model(doubling(), "doubling", "tpu")
    with pytest.raises(ConfigError, match="unknown precision 'f16'; choose one of auto, f32, bf16"):
        load_model(doubling(), "doubling", "cpu", precision="f16")
    monkeypatch.setenv("VP3D_PRECISION", "int4")
    with pytest.raises(ConfigError, match="unknown precision 'int4'"):
        load_model(doubling(), "doubling", "cpu")
    monkeypatch.setenv("VP3D_RUNTIME", "tensorrt")
    with pytest.raises(ConfigError, match="VP3D_RUNTIME=tensorrt: unknown runtime"):
        find_target("cpu")


def test_runtime_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VP3D_RUNTIME", "openvino")
    monkeypatch.setattr(load, "runtime_problem", lambda name: f"{name} is not installed")
    with pytest.raises(MissingDependencyError, match="openvino is not installed; try: pip install openvino"):
        find_target("cpu")


def test_precision_that_is_not_there(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    with pytest.raises(ConfigError, match="bf16: onnxruntime on CPU computes in f32 only"):
        resolve_precision(Target("onnxruntime", "CPU"), "bf16")

    class OldCpu:
        def get_property(self, device: str, name: str) -> object:
            return ["FP32"] if name == "OPTIMIZATION_CAPABILITIES" else "Some CPU"

    monkeypatch.setattr(openvino_model, "_core", OldCpu)
    assert resolve_precision(Target("openvino", "CPU")) == "f32"
    with pytest.raises(ConfigError, match="precision bf16: Some CPU does not compute in bf16; use f32, or auto"):
        resolve_precision(Target("openvino", "CPU"), "bf16")


def test_precision_from_the_environment(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    monkeypatch.setenv("VP3D_PRECISION", "f32")
    assert load_model(doubling(), "doubling", "cpu").precision == "f32"


# --- files that are no model ------------------------------------------------------------------------------------------


def external(folder: Path) -> bytes:
    """A model whose weights lie beside it."""
    model = onnx.load_from_string(doubling())
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.full(2000, 2, np.float32), "factor"))
    onnx.save(model, str(folder / "m.onnx"), save_as_external_data=True, location="m.bin", size_threshold=0)
    return (folder / "m.onnx").read_bytes()


def test_external_data_is_refused(runtime: str, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="weights two-files keeps its weights in a separate file") as caught:
        load_model(external(tmp_path), "two-files", "cpu")
    assert "\n" not in str(caught.value)


def test_external_data_of_a_constant_is_refused(tmp_path: Path) -> None:
    model = onnx.load_from_string(external(tmp_path))
    tensor = model.graph.initializer[0]
    constant = helper.make_node("Constant", [], ["factor"], value=tensor)
    model.graph.node.insert(0, constant)
    del model.graph.initializer[:]
    with pytest.raises(WeightsError, match="external data"):
        load_model(model.SerializeToString(), "constant", "cpu")


def junk_files() -> dict[str, bytes]:
    whole = doubling()
    return {
        "empty": b"",
        "text": b"not a network",
        "torch": b"PK\x03\x04" + bytes(200),
        "truncated": whole[: len(whole) // 2],
        "lifter": find_weights("open-27").path.read_bytes()[:100_000],
        "noise": np.random.default_rng(0).bytes(10_000),
    }


@pytest.mark.parametrize("kind", sorted(junk_files()))
def test_other_files_are_refused(kind: str) -> None:
    with pytest.raises(WeightsError, match=f"weights {kind} is not an ONNX model"):
        load_model(junk_files()[kind], kind, "cpu")


def test_unknown_operator_is_one_line(runtime: str, home: Path) -> None:
    model = onnx.load_from_string(doubling())
    model.graph.node[0].op_type = "NoSuchOperator"
    with pytest.raises(WeightsError, match=r"weights strange: .* cannot read the model") as caught:
        load_model(model.SerializeToString(), "strange", "cpu")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


def test_weight_file_that_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = find_weights("movenet-lightning")
    object.__setattr__(weights, "path", tmp_path / "gone.onnx")
    with pytest.raises(WeightsError, match=r"weights movenet-lightning: cannot read .*gone.onnx \(No such file"):
        load_weights(weights)


# --- the cache of compiled models -------------------------------------------------------------------------------------


def blobs(folder: Path) -> list[Path]:
    return sorted((folder / "compiled").glob("*.blob"))


def answer(threads: int = 1) -> Array:
    model = load_model(doubling(), "doubling", "cpu", precision="f32", threads=threads)
    return model.run(np.ones((4, 3), np.float32))[1]


def test_compiled_models_are_kept(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VP3D_RUNTIME", "openvino")
    first = answer()
    (kept,) = blobs(home)
    monkeypatch.setattr(type(openvino_model._core()), "compile_model", None)  # from the cache, or not at all
    np.testing.assert_array_equal(answer(), first)
    assert blobs(home) == [kept]
    assert not list(home.rglob("*.partial"))


def test_each_model_and_option_has_a_file_of_its_own(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VP3D_RUNTIME", "openvino")
    answer()
    answer(threads=2)
    load_model(doubling(factor=3), "other", "cpu", precision="f32", threads=1)
    load_model(doubling(), "two requests", "cpu", precision="f32", threads=2, requests=2)
    assert len(blobs(home)) == 4


@pytest.mark.parametrize("damage", ["cut", "changed", "empty", "foreign"])
def test_damaged_cache_is_replaced(damage: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VP3D_RUNTIME", "openvino")
    first = answer()
    (kept,) = blobs(home)
    whole = kept.read_bytes()
    middle = len(whole) // 2
    kept.write_bytes(
        {
            "cut": whole[:middle],
            "changed": whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :],
            "empty": b"",
            "foreign": hashlib.sha256(b"something else").digest() + b"something else",
        }[damage]
    )
    np.testing.assert_array_equal(answer(), first)
    assert blobs(home)[0].read_bytes()[32:36] == whole[32:36]


def test_cache_folder_that_cannot_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VP3D_RUNTIME", "openvino")
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("VP3D_CACHE", str(tmp_path / "file"))  # whoever runs this test, no folder can be made in it
    assert answer().tolist() == [[4] * 3] * 4


def test_read_only_cache_folder(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VP3D_RUNTIME", "openvino")
    folder = home / "compiled"
    folder.mkdir(parents=True)
    folder.chmod(stat.S_IRUSR | stat.S_IXUSR)
    try:
        assert answer().tolist() == [[4] * 3] * 4
    finally:
        folder.chmod(stat.S_IRWXU)
        shutil.rmtree(home)


def test_old_files_of_the_cache_are_removed(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled_cache, "_MAX_FILES", 2)
    for number in range(4):
        path = compiled_cache.cache_path("model", str(number))
        compiled_cache.write_compiled(path, bytes([number]) * 10)
        os.utime(path, (number + 1, number + 1))
    assert len(blobs(home)) == 2
    assert compiled_cache.read_compiled(path) == bytes([3]) * 10


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("VP3D_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.delenv("VP3D_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setattr("sys.platform", "linux")
    assert cache_folder() == tmp_path / "xdg" / "vp3d"
    monkeypatch.setattr("sys.platform", "win32")
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "local"))
    assert cache_folder() == tmp_path / "local" / "vp3d" / "cache"
    monkeypatch.setattr("sys.platform", "darwin")
    assert cache_folder().parts[-3:] == ("Library", "Caches", "vp3d")
