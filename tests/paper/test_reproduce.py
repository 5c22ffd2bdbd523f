"""The paper's tables again: what each row trains, the report, and going on wherever it was stopped."""

from __future__ import annotations

import base64
import json
import re
import shutil
import signal
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from tests.motions import write_archive
from tests.tiny_human36m import write_dataset, write_humaneva
from vp3d_cli.cli.main import main
from vp3d_cli.errors import ConfigError, InputError, OutputError, TrainingError
from vp3d_cli.paper.datasets.archives import SYNTHETIC_NOTE
from vp3d_cli.paper.datasets.synthetic import synthesize
from vp3d_cli.paper.published import published
from vp3d_cli.paper.reproduce import run as reproduce_run
from vp3d_cli.paper.reproduce.report import compose
from vp3d_cli.paper.reproduce.results import FILE, Results, RowResult, open_results
from vp3d_cli.paper.reproduce.run import Callbacks, Outcome, Plan, reproduce
from vp3d_cli.paper.reproduce.table_rows import GROUPS, all_rows, select_rows
from vp3d_cli.train.config import read_config
from vp3d_cli.train.mocap.motion import read_motion
from vp3d_cli.train.recipes import find_recipe

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("dataset"))


def plan(data: Path, out: Path, pattern: str, **changes: Any) -> Plan:
    return Plan(data, out, select_rows(pattern), **{"epochs": 1, "channels": 8, **changes})


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["reproduce", *map(str, arguments)])
    return int(ended.value.code or 0)


def test_rows_are_told_apart_and_their_runs_agree(folder: Path) -> None:
    rows = all_rows()
    assert len({row.name for row in rows}) == len(rows)
    assert {row.group for row in rows} == set(GROUPS)
    runs: dict[str, Any] = {}
    for row in rows:
        config = row.config(folder)
        assert runs.setdefault(row.run, config) == config
        paper = published(row.name)
        assert paper is None or paper.figures["mpjpe"] > 0
    assert len(set(map(repr, runs.values()))) == len(runs)


def test_rows_are_the_papers(folder: Path) -> None:
    rows = {row.name: row for row in all_rows()}
    main_row = rows["h36m-cpn-243"].config(folder)
    assert (main_row.train.epochs, main_row.train.batch, main_row.model.options["channels"]) == (80, 1024, 1024)
    assert list(main_row.model.options["widths"]) == [3] * 5
    assert main_row.dataset.keypoints == "cpn_ft_h36m_dbb"
    assert rows["h36m-cpn-243-causal"].config(folder).model.options["causal"]
    assert list(rows["h36m-cpn-1"].config(folder).model.options["widths"]) == [1] * 5
    plain = rows["h36m-cpn-243-no-augmentation"]
    assert (plain.config(folder).train.flips, plain.flip_test) == (False, False)
    assert rows["h36m-gt-27-no-dilation"].config(folder).model.architecture == "dense"

    semi, alone = rows["semi-s1-10"].config(folder), rows["semi-s1-10-supervised"].config(folder)
    assert semi.semi.on
    assert not alone.semi.on
    assert (semi.labelled_batch, alone.labelled_batch) == (64, 64)
    assert (semi.dataset.subset, semi.dataset.downsample, semi.dataset.train) == (0.1, 1, ("S1",))
    assert rows["semi-s1-10-no-bones"].config(folder).semi.bone_lengths == 0
    # As the authors' command for this row.
    assert (semi.semi.subjects, semi.train.epochs, semi.train.epoch_decay) == (("S5", "S6", "S7", "S8"), 200, 0.98)
    assert rows["semi-s156"].config(folder).semi.subjects == ("S7", "S8")
    recipe = read_config(find_recipe("paper-semi"), {"dataset": {"folder": str(folder)}})
    assert (recipe.dataset, recipe.semi) == (semi.dataset, semi.semi)
    # Fewer epochs, and less time without unlabelled data.
    short = rows["semi-s1-10"].config(folder, epochs=80, channels=32)
    assert (semi.semi.warmup_epochs, short.semi.warmup_epochs, short.train.epochs) == (5, 2, 80)
    assert (short.model.options["channels"], list(short.model.options["widths"])) == (32, [3, 3, 3])


@pytest.mark.parametrize(("pattern", "says"), [("(", "not a regular expression"), ("h37m", "no row matches")])
def test_rows_that_are_not_there(pattern: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        select_rows(pattern)


class Links(HTMLParser):
    """Collects what a page loads, and its tags."""

    def __init__(self) -> None:
        super().__init__()
        self.sources: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.sources += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def check_page(page: Path) -> None:
    """A well-formed page that loads nothing but the pictures in it."""
    parser = Links()
    parser.feed(page.read_text(encoding="utf-8"))
    assert parser.open == []
    assert parser.sources
    for source in parser.sources:
        kind, _, content = source.partition(",")
        assert kind == "data:image/png;base64"
        assert base64.b64decode(content).startswith(PNG)


PATTERN = "^h36m-cpn-1$|^h36m-gt-27-no-flip-test$|^semi-s1-10$|^h36m-sh-243$"


@pytest.fixture(scope="module")
def made(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Outcome]:
    out = tmp_path_factory.mktemp("reproduced") / "tables"
    return out, reproduce(plan(folder, out, PATTERN))


def test_report(made: tuple[Path, Outcome]) -> None:
    out, outcome = made
    assert outcome.finished
    assert {name: result.status for name, result in outcome.results.items()} == {
        "h36m-cpn-1": "done", "h36m-sh-243": "skipped", "h36m-gt-27-no-flip-test": "done", "semi-s1-10": "done",
    }  # fmt: skip
    assert outcome.report == out / "report.html"
    check_page(outcome.report)
    text = (out / "report.md").read_text(encoding="utf-8")
    (line,) = re.findall(r"^\| single frame \| h36m-cpn-1 \|.*$", text, re.MULTILINE)
    cells = [cell.strip() for cell in line.split("|")]
    ours = outcome.results["h36m-cpn-1"].figure("mpjpe")
    assert (cells[3], cells[4]) == (f"{ours:.1f}", "51.8")
    assert "skipped: no data_2d_h36m_sh_ft_h36m.npz" in text
    assert "1 epoch and 8 channels, unlike the paper" in text
    assert "synthetic" not in text
    # What is not the paper's stands where its figure does.
    semi = text.index("| semi-s1-10 |")
    assert semi < text.index("the loss differs from the paper's") < text.index("## How the models were trained")
    for picture in re.findall(r"\((plots/.*?)\)", text):
        assert (out / picture).read_bytes().startswith(PNG)
    content = json.loads((out / FILE).read_text())
    assert content["rows"]["semi-s1-10"]["trajectory"] > 0
    assert content["rows"]["h36m-cpn-1"]["cases"][-1]["name"] == "mean"
    assert (out / content["rows"]["h36m-cpn-1"]["lifter"]).is_file()
    assert set(content["archives"]) == {
        "data_3d_h36m.npz", "data_2d_h36m_gt.npz", "data_2d_h36m_cpn_ft_h36m_dbb.npz",
    }  # fmt: skip


def test_what_is_done_is_not_done_again(
    made: tuple[Path, Outcome], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, outcome = made

    def never(*_: object, **__: object) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(reproduce_run, "train", never)
    before = (out / "report.html").read_bytes()
    again = reproduce(plan(folder, out, PATTERN))
    assert again.results == outcome.results
    assert (out / "report.html").read_bytes() == before


def test_models_that_are_there_are_only_evaluated(made: tuple[Path, Outcome], folder: Path, tmp_path: Path) -> None:
    # As after a crash between training and evaluation.
    out, outcome = made
    name = "h36m-gt-27-no-flip-test"
    shutil.copytree(out / "runs" / "h36m-gt-27", tmp_path / "runs" / "h36m-gt-27")
    steps: list[int] = []
    again = reproduce(plan(folder, tmp_path, f"^{name}$"), Callbacks(step=lambda step, *_: steps.append(step)))
    assert steps == []
    assert again.results[name] == outcome.results[name]


def test_humaneva(tmp_path: Path) -> None:
    outcome = reproduce(plan(write_humaneva(tmp_path), tmp_path / "out", "humaneva-detectron"))
    result = outcome.results["humaneva-detectron-27"]
    assert result.status == "done"
    assert [case["name"] for case in result.cases][:2] == ["S1 Walking", "S1 Box"]
    assert "| 33.0 |" in (tmp_path / "out" / "report.md").read_text(encoding="utf-8")


def test_stopped_within_a_row_and_gone_on(folder: Path, tmp_path: Path) -> None:
    pattern = "^h36m-gt-27-no-flip-test$"
    whole = reproduce(plan(folder, tmp_path / "whole", pattern, epochs=3))

    def interrupt(step: int, steps: int, loss: float) -> None:
        if step == 2:
            signal.raise_signal(signal.SIGINT)

    stopped = reproduce(plan(folder, tmp_path / "parts", pattern, epochs=3), Callbacks(step=interrupt))
    assert not stopped.finished
    assert stopped.results["h36m-gt-27-no-flip-test"].status == "waiting"
    check = (tmp_path / "parts" / "report.md").read_text(encoding="utf-8")
    assert "0 of 0 rows are done" in check
    steps: list[int] = []
    after = reproduce(
        plan(folder, tmp_path / "parts", pattern, epochs=3), Callbacks(step=lambda step, *_: steps.append(step))
    )
    assert after.finished
    assert steps[0] == 3
    assert after.results == whole.results


def test_a_row_that_fails_does_not_stop_the_others(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = reproduce_run.train

    def fails(config: Any, out: Path, **options: Any) -> Any:
        if out.name == "h36m-cpn-1":
            raise TrainingError("the loss is not finite")
        return real(config, out, **options)

    monkeypatch.setattr(reproduce_run, "train", fails)
    arguments = (folder, "--out", tmp_path / "out", "--epochs", 1, "--channels", 8, "--rows", "cpn-1$|gt-27-no-flip")
    assert run(*arguments) == 1
    captured = capsys.readouterr()
    assert captured.out.strip() == str(tmp_path / "out" / "report.html")
    lines = captured.err.strip().splitlines()
    assert lines[0] == "1/2  h36m-cpn-1  failed: the loss is not finite"
    assert re.match(r"2/2  h36m-gt-27-no-flip-test  MPJPE [\d.]+  P-MPJPE [\d.]+  \(\d:\d\d\)", lines[1])
    assert lines[2].startswith("vp3d: error: 1 of 2 rows failed: h36m-cpn-1; the same command retries them")
    monkeypatch.setattr(reproduce_run, "train", real)
    assert run(*arguments, "-q") == 0
    assert capsys.readouterr().err == ""


def test_the_list(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(folder, "--list", "--rows", "^h36m-(cpn|sh)-243$|humaneva-gt") == 0
    rows = [re.split(r"  +", line) for line in capsys.readouterr().out.splitlines()]
    assert rows[2] == ["h36m-cpn-243", "243 frames", "46.8", "-"]
    assert [row[0] for row in rows[2:]] == ["h36m-cpn-243", "h36m-sh-243", "humaneva-gt-27"]
    assert rows[3][-1] == "no data_2d_h36m_sh_ft_h36m.npz"
    assert rows[4][-1] == "no data_3d_humaneva15.npz and no data_2d_humaneva15_gt.npz"


def test_subjects_that_are_missing_are_skipped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write_dataset(tmp_path / "data", ("S1", "S5", "S9"))
    assert run(data, "--out", tmp_path / "out", "--rows", "h36m-gt-243$", "--epochs", 1) == 1
    error = capsys.readouterr().err
    assert "skipped: no S11, S6, S7, S8 in the archives" in error
    assert "no row could be done" in error


def test_other_settings_and_other_data(made: tuple[Path, Outcome], folder: Path, tmp_path: Path) -> None:
    out, _ = made
    with pytest.raises(ConfigError, match=r"was started with --epochs 1; give the same again, or choose another --out"):
        reproduce(plan(folder, out, PATTERN, epochs=2))
    with pytest.raises(ConfigError, match="was started with --channels 8"):
        reproduce(plan(folder, out, PATTERN, channels=None))
    other = tmp_path / "other"
    other.mkdir()
    for file in folder.iterdir():
        (other / file.name).write_bytes(file.read_bytes() + (b"\0" if "gt" in file.name else b""))
    with pytest.raises(InputError, match=r"^data_2d_h36m_gt.npz changed since results were made from it"):
        reproduce(plan(other, out, PATTERN))


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"format": "vp3d-reproduce/1", "version": "", "data": "", "rows": {"a": {"status": 1}}}']
)
def test_what_is_no_journal(text: str, folder: Path, tmp_path: Path) -> None:
    (tmp_path / FILE).write_text(text)
    with pytest.raises(InputError, match="not the results of vp3d reproduce"):
        open_results(tmp_path, folder, 1, 8)


def test_notes_of_older_versions_about_synthetic_data_are_recognized(folder: Path, tmp_path: Path) -> None:
    old = RowResult("done", notes=["made-up data: results on it say nothing about the real data set"])
    Results(str(folder), rows={"h36m-gt-243": old}).write(tmp_path)
    read = open_results(tmp_path, folder, None, None)
    assert read.rows["h36m-gt-243"].notes == [SYNTHETIC_NOTE]


def test_folders_that_cannot_be_used(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InputError, match=r"no archives .*vp3d data prepare"):
        reproduce(plan(tmp_path, tmp_path / "out", PATTERN))
    with pytest.raises(OutputError, match="cannot make this folder"):
        reproduce(plan(folder, tmp_path / "no" / "out", PATTERN))
    assert not list(tmp_path.iterdir())
    assert run(folder) == 2
    assert "--list" in capsys.readouterr().err
    assert run(tmp_path, "--out", tmp_path / "out") == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_damaged_archives_are_failures(folder: Path, tmp_path: Path) -> None:
    data = write_dataset(tmp_path / "data")
    file = data / "data_2d_h36m_gt.npz"
    file.write_bytes(file.read_bytes()[:5000])
    outcome = reproduce(plan(data, tmp_path / "out", "h36m-gt-243$"))
    result = outcome.results["h36m-gt-243"]
    assert result.status == "failed"
    assert "data_2d_h36m_gt.npz" in result.reason
    assert "failed: " in (tmp_path / "out" / "report.md").read_text(encoding="utf-8")


def test_text_of_others_is_text() -> None:
    journal = Results("<data>", rows={"h36m-cpn-1": RowResult("failed", "<script>alert(1)</script> | x")})
    document = compose(journal, {})
    page = document.html("title")
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
    assert "x |" in document.markdown()
    assert "\\| x" in document.markdown()


def test_the_whole_way_on_a_made_up_data_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clips = read_motion(write_archive(tmp_path / "motion.npz"))
    synthesize(clips, tmp_path / "data", minutes=50 * 209 / 50 / 60, detections=False)
    arguments = (tmp_path / "data", "--out", tmp_path / "out", "--epochs", 1, "--channels", 32)
    assert run(*arguments, "--rows", "^h36m-gt-27-no-flip-test$|^semi-s1-1$", "-q") == 0
    page = Path(capsys.readouterr().out.strip())
    check_page(page)
    note = "synthetic data: the results say nothing about the real data set"
    assert page.read_text(encoding="utf-8").count(note) == 1
    content = json.loads((tmp_path / "out" / FILE).read_text())
    done = [name for name, row in content["rows"].items() if row["status"] == "done"]
    assert done[0] == "h36m-gt-27-no-flip-test"
    cases = content["rows"][done[0]]["cases"]
    assert len(cases) == 16
    assert 0 < cases[-1]["p_mpjpe"] <= cases[-1]["n_mpjpe"] <= cases[-1]["mpjpe"] < 400
