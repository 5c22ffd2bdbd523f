"""The data sets' cameras: two sources agree, they look at the people, and projection is OpenCV's or the data set's."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from vp3d_cli.errors import InputError
from vp3d_cli.paper.datasets.cameras import DatasetCamera, cameras_of, read_cameras
from vp3d_cli.paper.datasets.specs import DATASETS, action_name, dataset_spec, select_joints

# Where world's origin is in camera axes, millimetres, in the calibration that github.com/karfly/
# human36m-camera-parameters took from the data set's metadata.xml; ours came another way.
SECOND_SOURCE = {
    "S1": [(-346.05078, 546.98078, 5474.48109), (251.42516, 420.94221, 5588.19588), (480.48256, 253.83237, 5704.20768),
           (51.88348, 378.42084, 4406.14914)],
    "S5": [(-219.30597, 544.47875, 5518.74048), (103.90282, 395.67169, 5767.97266), (520.32723, 283.36910, 5591.12396),
           (-79.11643, 425.59047, 4454.48163)],
    "S6": [(-239.51829, 545.81418, 5523.93158), (169.02510, 409.66712, 5714.33800), (521.98648, 286.28273, 5643.27244),
           (-56.29675, 420.29580, 4499.32269)],
    "S7": [(-323.91184, 541.77152, 5506.56913), (178.62387, 403.59193, 5694.88010), (441.10647, 271.91614, 5660.12061),
           (25.76853, 431.05582, 4461.87298)],
    "S8": [(-82.70216, 552.18963, 5557.35361), (-209.06290, 375.06914, 5818.27668), (623.09851, 290.90537, 5534.37900),
           (-178.36706, 423.46692, 4421.64488)],
    "S9": [(-321.20783, 467.13452, 5514.33034), (19.19310, 404.22843, 5702.16928), (455.40107, 273.35893, 5657.81449),
           (-69.27126, 422.18434, 4457.89337)],
    "S11": [(-234.72080, 464.34018, 5536.65263), (-11.93435, 449.41659, 5541.11355),
            (781.12736, 235.31316, 5576.37044), (-155.13650, 422.16256, 4435.41622)],
}  # fmt: skip
ALL = [("human36m", s) for s in (*DATASETS["human36m"].subjects, "S2", "S3", "S4")]
ALL += [("humaneva", s) for s in DATASETS["humaneva"].subjects]


def points_in_view(n: int = 200) -> NDArray[Any]:
    """Points of the world where people of Human3.6M walk."""
    return np.random.default_rng(1).uniform([-1.2, -1.2, 0], [1.2, 1.2, 2], (n, 3))


@pytest.mark.parametrize("subject", SECOND_SOURCE)
def test_two_sources_agree(subject: str) -> None:
    for camera, origin in zip(cameras_of("human36m", subject), SECOND_SOURCE[subject], strict=True):
        np.testing.assert_allclose(camera.translation * 1000, origin, atol=1e-3)


def test_golden_rotation_and_intrinsics() -> None:
    # Second source, S1's first camera.
    camera = cameras_of("human36m", "S1")[0]
    rotation = [
        [-0.9153617, 0.4018084, 0.0257475],
        [0.0515481, 0.1803736, -0.9822465],
        [-0.399319, -0.8977836, -0.1858195],
    ]
    np.testing.assert_allclose(camera.rotation, rotation, atol=1e-6)
    np.testing.assert_allclose(camera.intrinsics, (1145.0494046, 1143.7810957, 512.5415050, 515.4514870), rtol=1e-7)
    expected = (-0.2070989108, 0.2477751831, -0.0014244716, -0.0009756989, -0.0030751504)
    np.testing.assert_allclose(camera.distortion, expected, rtol=1e-5)
    assert (camera.name, camera.size_wh, cameras_of("human36m", "S1")[1].size_wh) == (
        "54138969",
        (1000, 1002),
        (1000, 1000),
    )


@pytest.mark.parametrize(("dataset", "subject"), ALL)
def test_cameras_stand_around_the_people_and_look_at_them(dataset: Any, subject: str) -> None:
    cameras = cameras_of(dataset, subject)
    assert len(cameras) == DATASETS[dataset].num_cameras
    for camera in cameras:
        np.testing.assert_allclose(camera.rotation @ camera.rotation.T, np.eye(3), atol=1e-12)
        assert np.linalg.det(camera.rotation) == pytest.approx(1)
        assert 1.3 < camera.position[2] < 1.8  # on a tripod
        assert 3 < np.linalg.norm(camera.position[:2]) < 6.5
        # The middle of the room at hip height is near the optical axis, and up in the world is up in the image.
        middle = camera.to_camera(np.array([0.0, 0.0, 0.9]))
        assert middle[2] > 3
        assert np.linalg.norm(middle[:2]) / middle[2] < 0.25
        assert camera.rotation[1, 2] < -0.9


def test_subjects_of_a_data_set_have_different_cameras_and_parts_share_them() -> None:
    first, other = cameras_of("human36m", "S1")[0], cameras_of("human36m", "S11")[0]
    assert np.linalg.norm(first.position - other.position) > 0.05
    for name in ("Validate/S2", "Unlabeled/Train/S2", "S2"):
        np.testing.assert_array_equal(
            cameras_of("humaneva", name)[1].position, cameras_of("humaneva", "Train/S2")[1].position
        )


@pytest.mark.parametrize("subject", ["S1", "S9", "S2"])
@pytest.mark.parametrize("tangential", ["human36m", "opencv"])
def test_projection_agrees_with_opencv(subject: str, tangential: Any) -> None:
    points = points_in_view()
    for camera in cameras_of("human36m", subject):
        camera = dataclasses.replace(camera, tangential=tangential)
        fx, fy, cx, cy = camera.intrinsics
        matrix = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])
        rotation = cv2.Rodrigues(camera.rotation)[0]
        expected = cv2.projectPoints(points, rotation, camera.translation, matrix, camera.opencv_distortion)[0][:, 0]
        np.testing.assert_allclose(camera.project(points), expected, atol=2e-4)  # float32 pixels


def test_the_two_formulas_of_tangential_distortion_differ_by_less_than_a_pixel() -> None:
    camera = cameras_of("human36m", "S1")[1]
    assert camera.tangential == "human36m"
    off = np.abs(
        camera.project(points_in_view()) - dataclasses.replace(camera, tangential="opencv").project(points_in_view())
    )
    assert 0.02 < off.max() < 1.0


def test_projection_is_that_of_the_archives() -> None:
    # VideoPose3D's formula, in float64: k1 k2 k3 and p as (p2, p1).
    camera = cameras_of("human36m", "S7")[2]
    points = points_in_view()
    x = points @ camera.rotation.T + camera.translation
    x = x[:, :2] / x[:, 2:]
    k1, k2, p1, p2, k3 = camera.distortion
    p = np.array([p2, p1])
    r2 = (x**2).sum(1, keepdims=True)
    distorted = x * (1 + k1 * r2 + k2 * r2**2 + k3 * r2**3 + (p * x).sum(1, keepdims=True)) + p * r2
    expected = distorted * np.array(camera.intrinsics[:2]) + np.array(camera.intrinsics[2:])
    np.testing.assert_allclose(camera.project(points), expected, atol=2e-4)


def test_world_and_back() -> None:
    camera = cameras_of("humaneva", "Train/S3")[0]
    points = points_in_view().reshape(20, 10, 3)
    np.testing.assert_allclose(camera.to_world(camera.to_camera(points)), points, atol=1e-5)
    np.testing.assert_allclose(camera.to_camera(camera.position), np.zeros(3), atol=1e-6)


def test_humaneva_has_no_intrinsics_of_its_own() -> None:
    camera = cameras_of("humaneva", "Train/S1")[0]
    with pytest.raises(InputError, match=r"camera C1: its intrinsics are not known"):
        camera.project(points_in_view())


def test_cameras_of_your_own(tmp_path: Path) -> None:
    values = {
        "intrinsics": {"C1": {"size_wh": [640, 480], "focal": [750.0, 751.0], "centre": [320.0, 240.0]}},
        "subjects": {"S1": [{"camera": "C1", "orientation": [1, 0, 0, 0], "position_mm": [0, 0, -4000]}]},
    }
    path = tmp_path / "cameras.json"
    path.write_text(json.dumps(values))
    (camera,) = cameras_of("humaneva", "Train/S1", path)
    np.testing.assert_allclose(camera.project(np.array([[0.4, 0.8, 0.0]])), [[395.0, 390.2]], rtol=1e-6)
    assert isinstance(camera, DatasetCamera)
    with pytest.raises(InputError, match="no cameras of subject 'S2'; known: S1"):
        cameras_of("humaneva", "S2", path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"subjects": {"S1": [{"camera": "C9", "orientation": [1, 0, 0, 0], "position_mm": [0, 0, 0]}]}},
            "KeyError: 'C9'",
        ),
        (
            {"subjects": {"S1": [{"camera": "C1", "orientation": [2, 0, 0, 0], "position_mm": [0, 0, 0]}]}},
            "unit quaternion",
        ),
        ({"subjects": {"S1": [{"camera": "C1", "orientation": [1, 0, 0], "position_mm": [0, 0, 0]}]}}, "4 numbers"),
        ({"intrinsics": {"C1": {"size_wh": [640, 480], "focal": [-1, 2], "centre": [0, 0]}}}, "must be positive"),
        ({"tangential": "fisheye"}, "tangential is 'fisheye'"),
        ({"intrinsics": 3}, "AttributeError"),
    ],
)
def test_broken_files_of_cameras(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    values = {"intrinsics": {"C1": {"size_wh": [640, 480]}}, "subjects": {}} | change
    path = tmp_path / "cameras.json"
    path.write_text(json.dumps(values))
    with pytest.raises(InputError, match=message):
        read_cameras(path)


def test_unknown_data_sets_and_files(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="data set 'coco'; known: human36m, humaneva"):
        cameras_of("coco", "S1")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="no cameras of subject 'S10'"):
        cameras_of("human36m", "S10")
    with pytest.raises(InputError, match="no such file"):
        read_cameras(tmp_path / "none.json")
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(InputError, match="not a camera file"):
        read_cameras(tmp_path / "bad.json")
    with pytest.raises(InputError, match="unknown data set 'mpi'"):
        dataset_spec("mpi")


def test_the_17_joints_of_32() -> None:
    spec = DATASETS["human36m"]
    joints = np.arange(32, dtype=np.float32)[None, :, None].repeat(3, axis=2)
    kept = select_joints(joints, spec)[0, :, 0].astype(int).tolist()
    assert kept == [0, 1, 2, 3, 6, 7, 8, 12, 13, 14, 15, 17, 18, 19, 25, 26, 27]
    assert select_joints(joints[:, :17], spec).shape == (1, 17, 3)
    with pytest.raises(InputError, match=r"a.npz: 20 joints, but Human3.6M has 17 or 32"):
        select_joints(joints[:, :20], spec, "a.npz")


def test_the_splits_of_the_paper() -> None:
    spec = DATASETS["human36m"]
    assert (spec.train, spec.test) == (("S1", "S5", "S6", "S7", "S8"), ("S9", "S11"))
    assert len(spec.actions) == 15
    assert set(spec.train) | set(spec.test) == set(spec.subjects)
    assert spec.file_2d("cpn_ft_h36m_dbb") == "data_2d_h36m_cpn_ft_h36m_dbb.npz"
    eva = DATASETS["humaneva"]
    assert (eva.file_3d, eva.fps, eva.test[0]) == ("data_3d_humaneva15.npz", 60.0, "Validate/S1")
    assert action_name("WalkTogether 1") == "WalkTogether"
    assert action_name("Walking 1 chunk0") == "Walking"
