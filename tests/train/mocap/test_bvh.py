"""BVH files: their kinematics by scipy, and what is wrong with broken ones."""

from __future__ import annotations

from pathlib import Path

import motion_files as made
import numpy as np
import pytest

from vp3d_cli.errors import InputError
from vp3d_cli.train.mocap.bvh import read_bvh

FRAMES = 5


def test_bvh_kinematics_are_scipys(tmp_path: Path) -> None:
    recording = read_bvh(made.write_bvh(tmp_path / "a.bvh"))
    positions, rotations = made.forward_kinematics(made.random_angles(FRAMES), made.root_path(FRAMES))
    order = [recording.names.index(name) for name in made.JOINTS]
    np.testing.assert_allclose(recording.positions[:, order], 100 * positions, atol=1e-3)
    np.testing.assert_allclose(recording.rotations[:, order], rotations, atol=1e-6)
    assert recording.fps == pytest.approx(60.0)
    crown = recording.names.index("Head_end")
    head = positions[:, made.JOINTS.index("Head")] + rotations[:, made.JOINTS.index("Head")] @ np.array(made.CROWN)
    np.testing.assert_allclose(recording.positions[:, crown], 100 * head, atol=1e-3)


def test_bvh_position_channels_replace_the_offset(tmp_path: Path) -> None:
    text = """HIERARCHY
    ROOT a {
      OFFSET 1 2 3
      CHANNELS 3 Xposition Yposition Zposition
      JOINT b {
        OFFSET 0 10 0
        CHANNELS 6 Zrotation Yrotation Xrotation Xposition Zposition Yposition
        End Site {
          OFFSET 1 0 0
        }
      }
    }
    MOTION
    Frames: 2
    Frame Time: 0.5
    5 6 7  0 0 0  0 0 10
    5 6 7  90 0 0  1 2 12
    """
    file = tmp_path / "a.bvh"
    file.write_text(text)
    recording = read_bvh(file)
    assert recording.names == ("a", "b", "b_end")
    assert recording.fps == pytest.approx(2.0)
    expected = [[[5, 6, 7], [5, 16, 7], [6, 16, 7]], [[5, 6, 7], [6, 18, 9], [6, 19, 9]]]
    np.testing.assert_allclose(recording.positions, expected, atol=1e-12)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("HIERARCHY", "HIERARCHIE"), "line 1: a BVH file begins with HIERARCHY"),
        (("ROOT Hips\n{", "ROOT Hips\n"), r"line 4: '\{' must follow 'ROOT Hips', found 'OFFSET"),
        (("OFFSET 11.000000", "OFFSET x11"), r"line 8: OFFSET: 'x11' is not a number"),
        (("OFFSET 11.000000", "OFFSET nan"), r"line 8: OFFSET: a value is not finite"),
        (("OFFSET 11.000000 -2.000000 0.000000", "OFFSET 1 2"), "line 8: OFFSET must be 3 numbers, found 2"),
        (("CHANNELS 3 ", "CHANNELS 4 "), "line 9: CHANNELS says 4, but 3 follow"),
        (("CHANNELS 3 Zrotation", "CHANNELS 3 Wrotation"), "line 9: channel 'wrotation' is unknown"),
        (("CHANNELS 3 Zrotation", "CHANNELS 3 Xrotation"), "line 9: channel 'xrotation' is unknown or given twice"),
        (("MOTION", "}\nMOTION"), "closing brace without an opening brace"),
        (("\n}\nMOTION", "\nMOTION"), "the brace of Hips is open"),
        (("\tOFFSET 11.000000 -2.000000 0.000000\n", ""), "joint LeftUpLeg has no OFFSET"),
        (("MOTION", "JOINT more\n{\n}\nMOTION"), "'JOINT more' is outside of ROOT"),
        (("MOTION", "ROOT second\n{\nOFFSET 0 0 0\n}\nMOTION"), "a second ROOT"),
        (("MOTION", "DANCE"), "'DANCE' is not part of a hierarchy"),
        (("Frames: 5", "Frames: 6"), "6 frames are announced, 5 lines follow; is the file cut off?"),
        (("Frames: 5", "Frames: 4"), "4 frames are announced, 5 lines follow"),
        (("Frames: 5", "Images: 5"), "expected 'Frames:'"),
        (("Frame Time: 0.016", "Frame Time: -0.016"), "Frame Time must be positive"),
        (("Frame Time: 0.016666667", "Frame Time:"), "Frame Time: must be 1 numbers, found 0"),
        (("20.000000 95.000000", "20.000000 nan"), r"line \d+: a frame: a value is not finite"),
        (("20.000000 95.000000", "20.000000 inf"), "a value is not finite"),
        (("20.000000 95.000000", "20.000000 9,5"), "'9,5' is not a number"),
        (("20.000000 95.000000", "20.000000"), r"a frame must be 60 numbers, found 59"),
    ],
)
def test_broken_bvh(tmp_path: Path, change: tuple[str, str], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        read_bvh(made.broken_bvh(tmp_path, change))
    assert "broken.bvh line " in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("cut", [1, 3, 6, 7, 8, 9, 40, 100])
def test_truncated_bvh_is_never_read(tmp_path: Path, cut: int) -> None:
    with pytest.raises(InputError, match=r"broken\.bvh line \d+: "):
        read_bvh(made.broken_bvh(tmp_path, cut_lines=cut))


def test_value_errors_name_their_line(tmp_path: Path) -> None:
    file = made.broken_bvh(tmp_path)
    lines = file.read_text().splitlines()
    lines[-2] = lines[-2].replace(" ", " nan ", 1).rsplit(" ", 1)[0]
    file.write_text("\n".join(lines))
    with pytest.raises(InputError, match=f"line {len(lines) - 1}: a frame: a value is not finite"):
        read_bvh(file)


def test_files_that_are_no_text(tmp_path: Path) -> None:
    file = tmp_path / "a.bvh"
    file.write_bytes(bytes(range(256)))
    with pytest.raises(InputError, match="not a text file"):
        read_bvh(file)
    file.write_bytes(b"")
    with pytest.raises(InputError, match="line 1: the file ends where HIERARCHY should be"):
        read_bvh(file)
    with pytest.raises(InputError, match="cannot read"):
        read_bvh(tmp_path)
