"""Layouts: joints where their makers put them, names however spelled, and wrong ones refused by the body's shape."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from keypoint_samples import (
    SPORTS2D_MARKERS,
    walk,
)

from vp3d_cli.io.keypoints import LAYOUTS, find_layout
from vp3d_cli.io.keypoints.layouts import joint_name, layout_from_names, layout_problem
from vp3d_cli.skeletons import COCO17


def test_layouts_have_the_coco_keypoints_where_their_makers_put_them() -> None:
    # OpenPose: RWrist 4, LAnkle 14, LEar 18; Halpe and COCO-WholeBody begin with COCO; MPII: LWrist 15; MediaPipe 28.
    by_name = {
        name: dict(zip(COCO17.joints, layout.skeleton.columns(COCO17.joints), strict=True))
        for name, layout in LAYOUTS.items()
    }
    assert {name: LAYOUTS[name].num_joints for name in LAYOUTS} == {
        "coco17": 17, "h36m17": 17, "body25": 25, "coco18": 18, "mpii16": 16, "halpe26": 26, "mediapipe33": 33,
        "body25b": 25, "coco133": 133, "halpe136": 136,
    }  # fmt: skip
    assert (by_name["body25"]["right_wrist"], by_name["body25"]["left_ankle"], by_name["body25"]["left_ear"]) == (
        4,
        14,
        18,
    )
    assert (by_name["coco18"]["right_hip"], by_name["coco18"]["left_ear"]) == (8, 17)
    assert (by_name["mpii16"]["left_wrist"], by_name["mpii16"]["right_ankle"], by_name["mpii16"]["nose"]) == (15, 0, -1)
    assert (by_name["mediapipe33"]["right_ankle"], by_name["mediapipe33"]["left_eye"]) == (28, 2)
    assert (by_name["h36m17"]["left_wrist"], by_name["h36m17"]["right_hip"], by_name["h36m17"]["nose"]) == (13, 1, -1)
    for name in ("halpe26", "body25b", "coco133", "halpe136"):
        assert LAYOUTS[name].skeleton.columns(COCO17.joints) == list(range(17))
    assert LAYOUTS["halpe26"].joints[17:] == (
        "head", "neck", "hip", "left_big_toe", "right_big_toe", "left_small_toe", "right_small_toe", "left_heel",
        "right_heel",
    )  # fmt: skip


def test_layout_names_however_spelled() -> None:
    for name, wanted in {
        "BODY_25": "body25", "halpe-26": "halpe26", "COCO": "coco17", "H36M": "h36m17", "OpenPose COCO 18": "coco18",
    }.items():  # fmt: skip
        layout = find_layout(name)
        assert layout is not None
        assert layout.name == wanted
    assert find_layout("mpii15") is None


def test_joint_names_however_spelled() -> None:
    for text in ("RBigToe", "right_big_toe", "big toe right", "R-Big-Toe", "RIGHT_BIG_TOE", "bigToe_R"):
        assert joint_name(text) == "right_big_toe"
    assert joint_name("leftshoulder") == "left_shoulder"
    own = layout_from_names("any", list(SPORTS2D_MARKERS)).skeleton
    assert own.index("nose") == list(SPORTS2D_MARKERS).index("Nose")
    assert layout_from_names("coco", COCO17.joints) is LAYOUTS["coco17"]


@pytest.mark.parametrize(
    ("true", "said"), [("coco17", "h36m17"), ("h36m17", "coco17"), ("body25", "body25b"), ("body25b", "body25")]
)
def test_a_layout_of_the_same_size_is_refused_by_the_shape_of_the_body(true: str, said: str) -> None:
    points = walk(LAYOUTS[true])
    scores = np.ones(points.shape[:2], np.float32)
    assert layout_problem(LAYOUTS[true], points, scores) is None
    assert layout_problem(LAYOUTS[said], points, scores) is not None


@given(
    angle=st.floats(-np.pi, np.pi), stretch=st.floats(0.35, 1.0), scale=st.floats(0.1, 5.0), cut=st.integers(0, 17),
    layout=st.sampled_from(list(LAYOUTS)),
)  # fmt: skip
def test_the_true_layout_is_never_refused(angle: float, stretch: float, scale: float, cut: int, layout: str) -> None:
    """However the person is turned, narrowed, sized, or hidden in part."""
    points = walk(LAYOUTS[layout]).astype(np.float64)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    points = ((points * [stretch, 1.0]) @ turn.T * scale).astype(np.float32)
    points[:, [i for i in LAYOUTS[layout].skeleton.columns(COCO17.joints)[:cut] if i >= 0]] = np.nan
    assert layout_problem(LAYOUTS[layout], points, np.ones(points.shape[:2], np.float32)) is None


def test_what_a_joint_hangs_on_follows_from_its_name() -> None:
    for name in ("halpe26", "coco133", "body25", "mediapipe33"):
        skeleton = LAYOUTS[name].skeleton
        foot = "left_big_toe" if name != "mediapipe33" else "left_foot_index"
        assert skeleton.joints[skeleton.parents[skeleton.index(foot)]] == "left_ankle"
        assert (skeleton.index("left_hip"), skeleton.index("left_knee")) in skeleton.bones
        assert [skeleton.joints[i] for i in skeleton.flip_order][skeleton.index(foot)] == foot.replace("left", "right")
