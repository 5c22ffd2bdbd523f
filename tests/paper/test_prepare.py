"""Preparing data sets from every form in which users have them; the files are made here, in those formats."""

from __future__ import annotations

import builtins
import io
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.io import savemat
from typer.testing import CliRunner

from vp3d_cli.cli.main import app
from vp3d_cli.errors import InputError, MissingDependencyError, OutputError
from vp3d_cli.paper.datasets.archives import (
    read_positions_2d,
    read_positions_3d,
    write_positions_2d,
    write_positions_3d,
)
from vp3d_cli.paper.datasets.cameras import cameras_of
from vp3d_cli.paper.datasets.prepare import exact_keypoints, prepare
from vp3d_cli.paper.datasets.sequences import Archives
from vp3d_cli.paper.datasets.specs import DATASETS, select_joints
from vp3d_cli.types import FloatArray

SPEC = DATASETS["human36m"]
# Two takes of each action as the original download calls them.
ORIGINAL = {"Photo": "TakingPhoto", "WalkDog": "WalkingDog"}
TAKES = [f"{ORIGINAL.get(action, action)}{take}" for action in SPEC.actions for take in ("", " 1")]
RUNNER = CliRunner()


def joints_mm(frames: int = 3) -> np.ndarray[Any, np.dtype[np.float64]]:
    """(T, 32, 3): someone of about the right size, in millimetres."""
    joints = np.random.default_rng(frames).uniform(-150, 150, (frames, 32, 3)) + [0, 0, 900]
    joints[:, 15, 2] += 600  # the head
    return joints


def mat_of(joints: Any, wrap: bool = True) -> bytes:
    """As MATLAB saves ``data = cdfread(...)``: a cell with (1, T, 96) singles."""
    flat = np.asarray(joints, np.float32).reshape(1, len(joints), -1)
    cell = np.empty((1, 1), object)
    cell[0, 0] = flat
    stream = io.BytesIO()
    savemat(stream, {"data": cell if wrap else flat})
    return stream.getvalue()


def write_mat(folder: Path, subjects: tuple[str, ...] = SPEC.subjects, frames: int = 3) -> Path:
    """A whole Human3.6M converted by MATLAB."""
    content = mat_of(joints_mm(frames))
    for subject in subjects:
        place = folder / subject / "MyPoseFeatures" / "D3_Positions"
        place.mkdir(parents=True)
        for take in TAKES:
            (place / f"{take}.cdf.mat").write_bytes(content)
    return folder


def metres(joints: Any) -> FloatArray:
    return (np.asarray(joints, np.float32).astype(np.float64) / 1000).astype(np.float32)


def make_out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def test_converted_by_matlab(tmp_path: Path) -> None:
    result = prepare("human36m", write_mat(tmp_path / "in"), make_out(tmp_path))
    assert [file.name for file in result.files] == ["data_3d_h36m.npz", "data_2d_h36m_gt.npz"]
    read = read_positions_3d(result.files[0]).subjects
    assert tuple(read) == SPEC.subjects
    assert set(read["S1"]) == {f"{action}{take}" for action in SPEC.actions for take in ("", " 1")}
    np.testing.assert_array_equal(read["S5"]["Photo 1"], metres(joints_mm()))
    # S11's corrupt sequence is left out, and said so.
    assert "Directions" not in read["S11"]
    assert "Directions 1" in read["S11"]
    assert "Directions" in read["S9"]
    assert any("S11, Directions is corrupt" in note for note in result.notes)


def test_exact_keypoints_are_the_projected_joints(tmp_path: Path) -> None:
    result = prepare("human36m", write_mat(tmp_path / "in"), make_out(tmp_path))
    keypoints = read_positions_2d(result.files[1])
    assert (keypoints.layout, keypoints.num_joints) == ("h36m17", 17)
    seventeen = select_joints(metres(joints_mm()), SPEC)
    for camera, seen in zip(cameras_of("human36m", "S9"), keypoints.subjects["S9"]["WalkDog"], strict=True):
        np.testing.assert_array_equal(seen, camera.project(seventeen))
    assert exact_keypoints({"S1": {"A": seventeen}})["S1"]["A"][0].shape == (3, 17, 2)


def cdf_bytes(tmp_path: Path, joints: Any, name: str = "Pose") -> bytes:
    """As the original download: one record of variable Pose, (1, T, 96) singles."""
    from cdflib.cdfwrite import CDF

    values = np.asarray(joints, np.float32).reshape(len(joints), -1)
    path = tmp_path / "made.cdf"
    path.unlink(missing_ok=True)
    cdf = CDF(str(path), cdf_spec={"Majority": "row_major"})
    spec = {
        "Variable": name, "Data_Type": 44, "Num_Elements": 1, "Rec_Vary": True, "Var_Type": "zVariable",
        "Dim_Sizes": list(values.shape), "Compress": 0,
    }  # fmt: skip
    cdf.write_var(spec, var_data=values[None])
    cdf.close()
    return path.read_bytes()


def add_to_tar(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))


def write_tars(folder: Path, content: bytes, subjects: tuple[str, ...] = SPEC.subjects) -> Path:
    folder.mkdir()
    for subject in subjects:
        with tarfile.open(folder / f"Poses_D3_Positions_{subject}.tgz", "w:gz") as archive:
            for take in TAKES:
                add_to_tar(archive, f"{subject}/MyPoseFeatures/D3_Positions/{take}.cdf", content)
            add_to_tar(archive, f"{subject}/MyPoseFeatures/D3_Positions/_ALL.cdf", b"not read")
            add_to_tar(archive, f"{subject}/MyPoseFeatures/D3_Positions_mono/Walking.cdf", b"not read")
    return folder


def test_the_original_download(tmp_path: Path) -> None:
    pytest.importorskip("cdflib")
    result = prepare("human36m", write_tars(tmp_path / "in", cdf_bytes(tmp_path, joints_mm(4))), make_out(tmp_path))
    read = read_positions_3d(result.files[0]).subjects
    np.testing.assert_array_equal(read["S7"]["WalkDog 1"], metres(joints_mm(4)))
    assert sum(map(len, read.values())) == 7 * 30 - 1
    assert not (tmp_path / "in" / "S1").exists()  # nothing is unpacked


def test_h36m_zip(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    stream = io.BytesIO()
    with h5py.File(stream, "w") as file:
        file["3D_positions"] = joints_mm(5).reshape(5, 96).T
    with zipfile.ZipFile(tmp_path / "h36m.zip", "w") as archive:
        for subject in SPEC.subjects:
            for action in SPEC.actions:
                for take in ("", " 1"):
                    archive.writestr(f"h36m/{subject}/MyPoses/3D_positions/{action}{take}.h5", stream.getvalue())
    result = prepare("human36m", tmp_path / "h36m.zip", make_out(tmp_path))
    expected = (joints_mm(5) / 1000).astype(np.float32)
    np.testing.assert_array_equal(read_positions_3d(result.files[0]).subjects["S8"]["Waiting"], expected)


def test_all_forms_give_the_same_bytes(tmp_path: Path) -> None:
    pytest.importorskip("cdflib")
    pytest.importorskip("h5py")
    # Every take is another one; numbers that float32, in which the original has them, holds exactly.
    joints = {
        (s, take): np.round(joints_mm(3 + i)) + j
        for j, s in enumerate(("S9", "S1"))
        for i, take in enumerate(("Walking 1", "Walking", "TakingPhoto", "TakingPhoto 1"))
    }
    tars, mats = tmp_path / "tars", tmp_path / "mats"
    tars.mkdir()
    for subject in ("S1", "S9"):
        (mats / subject).mkdir(parents=True)
        with tarfile.open(tars / f"Poses_D3_Positions_{subject}.tgz", "w:gz") as archive:
            for (whose, take), values in joints.items():
                if whose == subject:
                    name = f"{subject}/MyPoseFeatures/D3_Positions/{take}.cdf"
                    add_to_tar(archive, name, cdf_bytes(tmp_path, values))
                    (mats / subject / f"{take}.cdf.mat").write_bytes(mat_of(values))
    with zipfile.ZipFile(tmp_path / "h36m.zip", "w") as archive:
        for (subject, take), values in joints.items():
            name = take.replace("TakingPhoto", "Photo").replace(" ", "_")
            content = h5_of("3D_positions", values.reshape(len(values), 96).T)
            archive.writestr(f"h36m/{subject}/MyPoses/3D_positions/{name}.h5", content)
    backwards = tmp_path / "data_3d_h36m.npz"
    shuffled: dict[str, dict[str, FloatArray]] = {"S9": {}, "S1": {}}
    for (subject, take), values in joints.items():
        shuffled[subject][take.replace("TakingPhoto", "Photo")] = metres(values)
    write_positions_3d(backwards, shuffled)
    made = []
    for number, source in enumerate((tars, mats, tmp_path / "h36m.zip", backwards)):
        files = prepare("human36m", source, tmp_path / str(number), partial=True).files
        made.append({file.name: file.read_bytes() for file in files})
    assert set(made[0]) == {"data_3d_h36m.npz", "data_2d_h36m_gt.npz"}
    assert made[1:] == made[:1] * 3
    read = read_positions_3d(tmp_path / "0" / "data_3d_h36m.npz").subjects
    assert {subject: list(sequences) for subject, sequences in read.items()} == {
        subject: ["Photo", "Photo 1", "Walking", "Walking 1"] for subject in ("S1", "S9")
    }
    np.testing.assert_array_equal(read["S9"]["Walking"], metres(joints["S9", "Walking"]))


def h5_of(name: str, values: Any) -> bytes:
    """An HDF5 file with one array."""
    import h5py

    stream = io.BytesIO()
    with h5py.File(stream, "w") as file:
        file[name] = values
    return stream.getvalue()


CAMERAS = ("54138969", "55011271", "58860488", "60457274")


def write_hourglass(folder: Path, subjects: tuple[str, ...] = ("S1", "S9")) -> dict[tuple[str, str, str, str], Any]:
    """Joints, and detections as Martinez et al. 2017 gave them out: (folder, subject, sequence, camera) to MPII's."""
    rng = np.random.default_rng(0)
    detected = {}
    for subject in subjects:
        for name in ("Walking_1", "Photo"):
            place = folder / "h36m" / subject / "MyPoses" / "3D_positions"
            place.mkdir(parents=True, exist_ok=True)
            (place / f"{name.replace('_', ' ')}.h5").write_bytes(h5_of("3D_positions", joints_mm(5).reshape(5, 96).T))
            for kind in ("h36m/{}/StackedHourglass", "{}/StackedHourglassFineTuned240"):
                place = folder / kind.format(subject)
                place.mkdir(parents=True, exist_ok=True)
                for camera in CAMERAS:
                    values = rng.uniform(0, 1000, (6, 16, 2))
                    (place / f"{name}.{camera}.h5").write_bytes(h5_of("poses", values))
                    detected[place.name, subject, name.replace("_", " "), camera] = values
    return detected


def test_detections_of_stacked_hourglass_come_along(tmp_path: Path) -> None:
    pytest.importorskip("h5py")
    detected = write_hourglass(tmp_path / "in")
    (tmp_path / "in/h36m/S1/StackedHourglass/Photo.55011271.h5").unlink()
    result = prepare("human36m", tmp_path / "in", make_out(tmp_path), partial=True)
    assert [file.name for file in result.files] == [
        "data_3d_h36m.npz", "data_2d_h36m_gt.npz", "data_2d_h36m_sh_pt_mpii.npz", "data_2d_h36m_sh_ft_h36m.npz",
    ]  # fmt: skip
    for kind, folder in (("sh_pt_mpii", "StackedHourglass"), ("sh_ft_h36m", "StackedHourglassFineTuned240")):
        archive = read_positions_2d(make_out(tmp_path) / f"data_2d_h36m_{kind}.npz")
        # The order and the pairs of VideoPose3D's own archives.
        assert (archive.layout, archive.num_joints) == ("hourglass16", 16)
        assert archive.symmetry == ((4, 5, 6, 10, 11, 12), (1, 2, 3, 13, 14, 15))
        order = [6, 2, 1, 0, 3, 4, 5, 7, 8, 9, 13, 14, 15, 12, 11, 10]
        for number, camera in enumerate(CAMERAS):
            np.testing.assert_array_equal(
                archive.subjects["S9"]["Walking 1"][number],
                detected[folder, "S9", "Walking 1", camera][:, order].astype(np.float32),
            )
        assert [len(view) for view in archive.subjects["S1"]["Photo"]] == [6, 0 if kind == "sh_pt_mpii" else 6, 6, 6]
    assert any("data_2d_h36m_sh_pt_mpii.npz: 4 sequences have other lengths" in note for note in result.notes)
    # They can be trained and tested on.
    (sequence, _) = Archives(make_out(tmp_path), "human36m", "sh_pt_mpii").sequences("S9")
    assert sequence.views[0][0].shape == (5, 16, 2)
    (make_out(tmp_path) / "data_3d_h36m.npz").unlink()
    (make_out(tmp_path) / "data_2d_h36m_gt.npz").unlink()
    with pytest.raises(OutputError, match=r"data_2d_h36m_sh_pt_mpii\.npz"):
        prepare("human36m", tmp_path / "in", make_out(tmp_path), partial=True)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("Walking_1.54138969.h5", b"no hdf5", "damaged"),
        ("Walking_1.h5", None, "no camera of Human3.6M in its name"),
        ("Walking_1.1234.h5", None, "no camera of Human3.6M in its name; they are 54138969"),
        ("Walking_1.54138969.h5", (5, 17, 2), r"expected keypoints \(T, 16, 2\), got \(5, 17, 2\)"),
    ],
)
def test_unusable_detections(tmp_path: Path, name: str, content: Any, message: str) -> None:
    pytest.importorskip("h5py")
    write_hourglass(tmp_path / "in", ("S1",))
    file = tmp_path / "in/h36m/S1/StackedHourglass" / name
    file.write_bytes(content if isinstance(content, bytes) else h5_of("poses", np.zeros(content or (5, 16, 2))))
    with pytest.raises(InputError, match=rf"{name}: {message}"):
        prepare("human36m", tmp_path / "in", make_out(tmp_path), partial=True)
    assert not make_out(tmp_path).exists()


def test_archives_that_exist_are_checked_and_copied(tmp_path: Path) -> None:
    source = prepare("human36m", write_mat(tmp_path / "in"), tmp_path / "first").files[0].parent
    joints = read_positions_3d(source / "data_3d_h36m.npz").subjects
    detections = {
        s: {name: [np.zeros((len(v) + (name == "Eating"), 17, 2), np.float32)] * 4 for name, v in sequences.items()}
        for s, sequences in joints.items()
    }
    del detections["S9"]["Waiting"]
    write_positions_2d(source / "data_2d_h36m_cpn_ft_h36m_dbb.npz", detections, "h36m17")
    result = prepare("human36m", source, make_out(tmp_path))
    assert {file.name for file in result.files} == {
        "data_3d_h36m.npz", "data_2d_h36m_gt.npz", "data_2d_h36m_cpn_ft_h36m_dbb.npz",
    }  # fmt: skip
    for file in result.files:
        assert file.read_bytes() == (source / file.name).read_bytes()
    notes = " ".join(result.notes)
    assert "has no keypoints of S9, Waiting" in notes
    assert "7 sequences have other lengths than their joints (0 are shorter)" in notes
    # The archive alone: exact keypoints are made.
    alone = prepare("human36m", source / "data_3d_h36m.npz", tmp_path / "alone")
    assert (tmp_path / "alone/data_2d_h36m_gt.npz").read_bytes() == (source / "data_2d_h36m_gt.npz").read_bytes()
    assert len(alone.files) == 2


def test_seventeen_joints_do_too(tmp_path: Path) -> None:
    joints = {
        s: {f"{a}{t}": select_joints(metres(joints_mm()), SPEC) for a in SPEC.actions for t in ("", " 1")}
        for s in SPEC.subjects
    }
    write_positions_3d(tmp_path / "data_3d_h36m.npz", joints)
    result = prepare("human36m", tmp_path / "data_3d_h36m.npz", make_out(tmp_path))
    assert read_positions_3d(result.files[0]).subjects["S1"]["Eating"].shape == (3, 17, 3)


def test_missing_subjects_and_sequences(tmp_path: Path) -> None:
    source = write_mat(tmp_path / "in", ("S1", "S9"))
    (source / "S1/MyPoseFeatures/D3_Positions/TakingPhoto 1.cdf.mat").unlink()
    message = r"is not complete: missing are subjects S5, S6, S7, S8, S11; S1, Photo: 1 of 2; --partial takes"
    with pytest.raises(InputError, match=message):
        prepare("human36m", source, make_out(tmp_path))
    assert not make_out(tmp_path).exists()
    result = prepare("human36m", source, make_out(tmp_path), partial=True)
    assert set(read_positions_3d(result.files[0]).subjects) == {"S1", "S9"}
    assert any("missing are subjects S5" in note for note in result.notes)
    write_positions_3d(tmp_path / "other.npz", {"Anna": {"Walking": metres(joints_mm())}})
    with pytest.raises(InputError, match=r"none of Human3\.6M's subjects .* but Anna"):
        prepare("human36m", tmp_path / "other.npz", make_out(tmp_path), partial=True, overwrite=True)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (mat_of(joints_mm()[:, :20]), r"expected frames of 32 joints \(96 numbers\), got an array \(3, 60\)"),
        (mat_of(joints_mm(), wrap=False), None),
        (mat_of(joints_mm() / 1000), r"0.000\d+ m from hip to head"),
        (mat_of(np.where(np.arange(3)[:, None, None] == 1, np.nan, joints_mm())), "values of frame 1 are not finite"),
        (b"MATLAB 5.0 MAT-file nonsense", "damaged"),
        (b"", "damaged"),
    ],
)
def test_unusable_sequences(tmp_path: Path, content: bytes, message: str | None) -> None:
    source = write_mat(tmp_path / "in")
    (source / "S6/MyPoseFeatures/D3_Positions/Sitting.cdf.mat").write_bytes(content)
    if message is None:
        assert prepare("human36m", source, make_out(tmp_path)).files
        return
    with pytest.raises(InputError, match=rf"S6.*Sitting\.cdf\.mat: {message}"):
        prepare("human36m", source, make_out(tmp_path))
    assert not make_out(tmp_path).exists()


def test_damaged_cdf_and_h5(tmp_path: Path) -> None:
    pytest.importorskip("cdflib")
    pytest.importorskip("h5py")
    with pytest.raises(InputError, match=r"S1.*Directions\.cdf: damaged"):
        prepare("human36m", write_tars(tmp_path / "in", b"no cdf", ("S1",)), make_out(tmp_path))
    with pytest.raises(InputError, match="damaged"):
        prepare(
            "human36m",
            write_tars(tmp_path / "b", cdf_bytes(tmp_path, joints_mm(), "Other"), ("S1",)),
            make_out(tmp_path),
        )
    place = tmp_path / "h5/S1/MyPoses/3D_positions"
    place.mkdir(parents=True)
    (place / "Eating.h5").write_bytes(b"no hdf5")
    with pytest.raises(InputError, match=r"Eating\.h5: damaged"):
        prepare("human36m", tmp_path / "h5", make_out(tmp_path))


def test_damaged_archives(tmp_path: Path) -> None:
    tars = write_tars(tmp_path / "in", np.random.default_rng(0).bytes(4000), ("S1",))
    whole = next(tars.iterdir())
    whole.write_bytes(whole.read_bytes()[:200])
    with pytest.raises(InputError, match=r"Poses_D3_Positions_S1\.tgz: damaged archive"):
        prepare("human36m", tars, make_out(tmp_path))
    (tmp_path / "h36m.zip").write_bytes(b"PK\x03\x04")
    with pytest.raises(InputError, match=r"h36m\.zip: damaged archive"):
        prepare("human36m", tmp_path / "h36m.zip", make_out(tmp_path))


def test_sources_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "a.txt").write_text("x")
    for dataset, name in (("human36m", "Poses_D3_Positions"), ("humaneva", "converted_15j")):
        with pytest.raises(InputError, match=f"wanted are .*{name}"):
            prepare(dataset, tmp_path / "empty", make_out(tmp_path))
    with pytest.raises(InputError, match="no such file or folder"):
        prepare("human36m", tmp_path / "none", make_out(tmp_path))
    with pytest.raises(InputError, match="neither a folder nor a zip or tar"):
        prepare("human36m", tmp_path / "a.txt", make_out(tmp_path))
    with pytest.raises(InputError, match="unknown data set 'coco'"):
        prepare("coco", tmp_path / "empty", make_out(tmp_path))
    place = tmp_path / "loose"
    place.mkdir()
    (place / "Eating.cdf.mat").write_bytes(mat_of(joints_mm()))
    with pytest.raises(InputError, match="no folder names its subject"):
        prepare("human36m", place, make_out(tmp_path))
    twice = write_mat(tmp_path / "twice", ("S1",))
    (twice / "copy/S1").mkdir(parents=True)
    (twice / "copy/S1/Eating.cdf.mat").write_bytes(mat_of(joints_mm()))
    with pytest.raises(InputError, match="S1, Eating is there twice"):
        prepare("human36m", twice, make_out(tmp_path))


def test_subjects_that_are_none_of_the_data_sets_are_left_out(tmp_path: Path) -> None:
    result = prepare("human36m", write_mat(tmp_path / "in", (*SPEC.subjects, "S10")), make_out(tmp_path))
    assert tuple(read_positions_3d(result.files[0]).subjects) == SPEC.subjects
    assert any("left out: S10" in note for note in result.notes)


def test_names_in_capitals(tmp_path: Path) -> None:
    source = write_mat(tmp_path / "in")
    file = source / "S1/MyPoseFeatures/D3_Positions/WalkingDog 1.cdf.mat"
    file.rename(file.with_name("WalkingDog_1.CDF.MAT"))
    assert "WalkDog 1" in prepare("human36m", source, make_out(tmp_path)).joints["S1"]


def test_outputs_are_not_replaced_unasked(tmp_path: Path) -> None:
    source = write_mat(tmp_path / "in")
    prepare("human36m", source, make_out(tmp_path))
    with pytest.raises(OutputError, match="exists already"):
        prepare("human36m", source, make_out(tmp_path))
    prepare("human36m", source, make_out(tmp_path), overwrite=True)
    with pytest.raises(OutputError, match="cannot make this folder"):
        prepare("human36m", source, tmp_path / "no" / "where")


@pytest.mark.parametrize(("library", "suffix"), [("cdflib", ".cdf"), ("h5py", ".h5")])
def test_libraries_that_are_missing_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, library: str, suffix: str
) -> None:
    place = tmp_path / "in/S1/3D_positions"
    place.mkdir(parents=True)
    (place / f"Eating{suffix}").write_bytes(b"x")
    real_import = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == library:
            raise ImportError(name)
        return real_import(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingDependencyError, match=rf"needs {library}: pip install 'vp3d\[human36m\]'"):
        prepare("human36m", tmp_path / "in", make_out(tmp_path))


EVA = DATASETS["humaneva"]


def write_humaneva(folder: Path, joints: Any = None, keypoints: Any = None, **more: Any) -> Path:
    """HumanEva-I as its MATLAB code converts it; frames 2 and 3 of 7 have no motion capture."""
    if joints is None:
        joints = np.random.default_rng(0).uniform(-800, 800, (7, 15, 3))
        joints[2:4] = np.nan
    if keypoints is None:
        keypoints = np.random.default_rng(1).uniform(0, 480, (3, 7, 15, 2))
        keypoints[:, 2:4] = np.nan
    for subject in EVA.subjects:
        (folder / subject).mkdir(parents=True)
        for action in ("Walking_1", "Box_1"):
            savemat(folder / subject / f"{action}.mat", {"poses_3d": joints, "poses_2d": keypoints, **more})
    return folder


def test_humaneva_is_cut_at_gaps(tmp_path: Path) -> None:
    result = prepare("humaneva", write_humaneva(tmp_path / "in"), make_out(tmp_path))
    assert [file.name for file in result.files] == ["data_3d_humaneva15.npz", "data_2d_humaneva15_gt.npz"]
    joints, keypoints = read_positions_3d(result.files[0]).subjects, read_positions_2d(result.files[1])
    assert set(joints) == set(EVA.subjects)
    # The gap has a number too, as in VideoPose3D's archives of detections.
    assert set(joints["Validate/S2"]) == {f"{a} 1 chunk{n}" for a in ("Walking", "Box") for n in (0, 2)}
    values = np.random.default_rng(0).uniform(-800, 800, (7, 15, 3))
    np.testing.assert_array_equal(joints["Train/S1"]["Box 1 chunk2"], (values[4:] / 1000).astype(np.float32))
    pixels = np.random.default_rng(1).uniform(0, 480, (3, 7, 15, 2)).astype(np.float32)
    np.testing.assert_array_equal(keypoints.subjects["Train/S1"]["Box 1 chunk0"][1], pixels[1, :2])
    assert keypoints.layout == "humaneva15"
    assert "Train/S1: 4 frames are not finite and left out; sequences end there" in result.notes
    # What was prepared can be prepared again.
    again = prepare("humaneva", make_out(tmp_path), tmp_path / "again")
    assert [file.read_bytes() for file in again.files] == [file.read_bytes() for file in result.files]


@pytest.mark.parametrize(
    ("joints", "keypoints", "message"),
    [
        (np.zeros((7, 20, 3)), None, r"poses_3d is \(7, 20, 3\), expected \(T, 15, 3\); convert with 15 joints"),
        (np.zeros((6, 15, 3)), None, r"poses_2d is \(3, 7, 15, 2\), expected \(3, 6, 15, 2\)"),
        (np.array([["x"]]), None, "poses_3d holds no numbers"),
    ],
)
def test_unusable_humaneva(tmp_path: Path, joints: Any, keypoints: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        prepare("humaneva", write_humaneva(tmp_path / "in", joints, keypoints), make_out(tmp_path))


def test_humaneva_without_a_part(tmp_path: Path) -> None:
    source = write_humaneva(tmp_path / "in")
    for action in ("Walking_1", "Box_1"):
        (source / "Validate/S3" / f"{action}.mat").unlink()
    with pytest.raises(InputError, match="missing are subjects Validate/S3"):
        prepare("humaneva", source, make_out(tmp_path))
    savemat(source / "Train/S1/Jog_1.mat", {"poses_3d": np.zeros((2, 15, 3))})
    with pytest.raises(InputError, match=r"Jog_1\.mat: has no poses_2d"):
        prepare("humaneva", source, make_out(tmp_path))


def test_command(tmp_path: Path) -> None:
    source = write_mat(tmp_path / "in")
    done = RUNNER.invoke(app, ["data", "prepare", "human36m", str(source), "--out", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    assert done.stdout.split() == [str(tmp_path / "out/data_3d_h36m.npz"), str(tmp_path / "out/data_2d_h36m_gt.npz")]
    assert "S11" in done.stderr
    assert "corrupt" in done.stderr
    failed = RUNNER.invoke(app, ["data", "prepare", "human36m", str(source), "--out", str(tmp_path / "out")])
    assert failed.exit_code == 1
    assert failed.stderr.count("\n") == 1
