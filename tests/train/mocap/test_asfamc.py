"""ASF/AMC files: their kinematics by scipy, and what is wrong with broken ones."""

from __future__ import annotations

from pathlib import Path

import motion_files as made
import numpy as np
import pytest

from vp3d_cli.errors import InputError
from vp3d_cli.train.mocap.asfamc import find_asf, read_amc

FRAMES = 5


def test_amc_kinematics_are_scipys(tmp_path: Path) -> None:
    amc = made.write_amc(tmp_path, FRAMES)
    recording = read_amc(find_asf(amc), amc)
    for name, (start, end) in made.asf_kinematics(made.amc_values(FRAMES)).items():
        found = recording.positions[:, recording.names.index(name)] / made.ASF_UNITS_PER_M
        np.testing.assert_allclose(found, start, atol=1e-8, err_msg=name)
        if f"{name}_end" in recording.names:
            found = recording.positions[:, recording.names.index(f"{name}_end")] / made.ASF_UNITS_PER_M
            np.testing.assert_allclose(found, end, atol=1e-8, err_msg=name)
    assert {"head_end", "lhand_end", "rfoot_end"} <= set(recording.names)
    assert recording.fps == 120.0


def test_amc_may_say_how_fast_it_is(tmp_path: Path) -> None:
    amc = made.write_amc(tmp_path)
    amc.write_text(amc.read_text().replace(":DEGREES", ":DEGREES\n:SAMPLES-PER-SECOND 60"))
    assert read_amc(find_asf(amc), amc).fps == 60.0


def test_which_skeleton_belongs_to_a_motion(tmp_path: Path) -> None:
    for name in ("1.asf", "12.asf", "12_01.amc", "7_01.amc"):
        (tmp_path / name).write_text("")
    assert find_asf(tmp_path / "12_01.amc").name == "12.asf"
    with pytest.raises(InputError, match=r"cannot tell its skeleton; beside it is 1\.asf, 12\.asf"):
        find_asf(tmp_path / "7_01.amc")
    (tmp_path / "12.asf").unlink()
    assert find_asf(tmp_path / "7_01.amc").name == "1.asf"
    (tmp_path / "1.asf").unlink()
    with pytest.raises(InputError, match=r"beside it is no \.asf file"):
        find_asf(tmp_path / "7_01.amc")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("name lfemur", "title lfemur"), r"01\.asf line \d+: a bone without name"),
        (("axis 0 0 20   XYZ", "axis 0 0 twenty XYZ"), "'twenty' is not a number"),
        (("axis 0 0 20   XYZ", "axis 0 0 20 XXZ"), "axis order must be some order of XYZ"),
        (("dof rx ry rz", "dof rx ry l"), "cannot read degrees of freedom l"),
        (("    lfemur ltibia", "    lfemur ltibia tail"), "names 'tail', which is not a bone"),
        (("    lfemur ltibia\n", ""), "bones that are not connected to the root: ltibia"),
        (("    lfemur ltibia", "    lfemur ltibia lfoot"), "bone lfoot has two parents"),
        (("order TX TY TZ RX RY RZ", "order TX TY TZ RX RY"), "root order must name"),
        ((":hierarchy", ":end"), "without :bonedata and :hierarchy"),
    ],
)
def test_broken_asf(tmp_path: Path, change: tuple[str, str], message: str) -> None:
    amc = made.write_amc(tmp_path)
    asf = find_asf(amc)
    text = asf.read_text()
    assert change[0] in text
    asf.write_text(text.replace(*change, 1))
    with pytest.raises(InputError, match=message) as caught:
        read_amc(asf, amc)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("lines", [3, 20, 60, 200, 275])
def test_truncated_asf_is_never_read(tmp_path: Path, lines: int) -> None:
    amc = made.write_amc(tmp_path)
    asf = find_asf(amc)
    whole = asf.read_text().splitlines()
    assert len(whole) > lines
    asf.write_text("\n".join(whole[:lines]))
    with pytest.raises(InputError, match=r"01\.asf line \d+: "):
        read_amc(asf, amc)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("ltibia ", "ltibia nan #"), "a value is not finite"),
        (("ltibia ", "ltibia 1 "), "bone ltibia must be 1 numbers, found 2"),
        (("ltibia ", "tail "), "no moving bone 'tail'"),
        (("ltibia ", "lhipjoint 1\nltibia "), "no moving bone 'lhipjoint'"),
        (("\n2\n", "\nroot 1 2 3 4 5 6\n2\n"), r"bone root is given twice in frame 1"),
        (("\n1\n", "\n"), "the number of a frame must come first"),
    ],
)
def test_broken_amc(tmp_path: Path, change: tuple[str, str], message: str) -> None:
    amc = made.write_amc(tmp_path)
    text = amc.read_text()
    assert change[0] in text
    amc.write_text(text.replace(*change, 1))
    with pytest.raises(InputError, match=message) as caught:
        read_amc(find_asf(amc), amc)
    assert "01_02.amc line " in str(caught.value)


def test_truncated_amc(tmp_path: Path) -> None:
    amc = made.write_amc(tmp_path)
    lines = amc.read_text().splitlines()
    amc.write_text("\n".join(lines[:-3]))
    with pytest.raises(InputError, match=r"frame 4 lacks rradius, rwrist, rhand; is the file cut off\?"):
        read_amc(find_asf(amc), amc)
    amc.write_text("\n".join(lines[:3]))
    with pytest.raises(InputError, match="there are no frames"):
        read_amc(find_asf(amc), amc)
