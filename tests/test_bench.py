"""The bench measures what it says: tiny runs of each, in which no time is compared."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest

from tests.bench.__main__ import BENCHES, main
from tests.bench.corpus import FOLDERS, Letter, canonical, letters, write
from tests.bench.figures import BenchError, Result, Samples, Target, short
from tests.bench.readme import BEGIN, END, README, update
from tests.bench.sizes import plot
from tests.bench.table import as_markdown, as_text
from tests.bench.workshop import count_files
from tests.clients import parse_legacy, render_legacy
from tests.running import ROOT, wait_for

CORPUS = list(letters(Path("/p/a"), 300))
PID = re.compile(r'"pid": *(\d+),')


def pids_of_agents(scratch: Path) -> list[int]:
    found = scratch.glob("*/home/*/syncd/agents/*.json")
    texts = [path.read_text() for path in found]
    return [int(match[1]) for match in map(PID.search, texts) if match]


def result(ours: float = 2.0, floor: float = 1.0, limit: float = 2.5) -> Result:
    made = Result("migrate", "migrate of 9", Samples.of([ours], "s"), Samples.of([floor], "s"))
    made.limit_ratio(limit)
    return made


@pytest.mark.skipif(sys.platform != "linux", reason="an agent's use is read from /proc")
@pytest.mark.parametrize("name", sorted(BENCHES))
def test_a_tiny_run_measures_both_and_both_did_the_same(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path / "scratch"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "scratch"))
    (tmp_path / "scratch").mkdir()

    code = main([name, "--tiny", "--json", str(tmp_path / "all.json")])

    found = json.loads((tmp_path / "all.json").read_text())
    assert (0, {}) == (code, found["failures"])
    assert found["results"] or name == "indexers"
    for one in found["results"]:
        assert one["name"] == name
        assert one["ours"]["median"] >= 0
        if name != "idle-agent":
            assert one["floor"]["median"] > 0
            assert one["ratio"] == one["ours"]["median"] / one["floor"]["median"]
        if name not in {"neighbours", "messaging", "idle-agent"}:
            assert one["did"]["ours"] == one["did"]["floor"] > 0, one["what"]
        assert all(count > 0 for count in one["did"].values()), one["what"]
    assert [] == os.listdir(tmp_path / "scratch")


def test_the_corpus_is_written_as_the_old_client_writes_it() -> None:
    for letter in CORPUS:
        assert render_legacy(letter.message) == canonical(letter.message), letter.path
        assert letter.message == parse_legacy(canonical(letter.message).encode())


def test_the_corpus_is_the_same_on_every_run_and_fewer_are_the_first_of_more() -> None:
    again = list(letters(Path("/p/a"), 50))

    assert CORPUS[:50] == again
    assert len(CORPUS) == len({letter.message.id for letter in CORPUS})
    assert CORPUS[:5] != list(islice(letters(Path("/p/a"), 300, seed=1), 5))


def test_the_corpus_has_a_fifth_with_metadata_and_something_in_every_mailbox() -> None:
    with_metadata = sum(bool(letter.message.metadata) for letter in CORPUS)
    lengths = sorted(len(letter.message.body) for letter in CORPUS)

    assert 0.15 < with_metadata / len(CORPUS) < 0.25
    assert set(FOLDERS) == {letter.folder for letter in CORPUS}
    assert lengths[0] < 100 < 4_000 < lengths[-1]


def test_all_files_of_a_corpus_are_counted(tmp_path: Path) -> None:
    def moved(letter: Letter) -> Letter:
        return replace(letter, folder="outbox")

    written = write(tmp_path / ".claude-mpm", [*CORPUS[:10], *map(moved, CORPUS[10:13])])

    assert 13 == written == count_files(tmp_path)


def test_a_target_is_met_up_to_its_limit() -> None:
    assert result(ours=2.5).targets[0].is_met
    assert not result(ours=2.6).targets[0].is_met
    assert Target("> 10", 10, 10, at_least=True).is_met
    assert not Target("> 10", 9, 10, at_least=True).is_met


def test_median_and_spread_are_of_the_values() -> None:
    samples = Samples.of(range(1, 201), "ms", tail=True)

    assert (100.5, 198) == (samples.median, samples.p99)
    assert "100 ms (p99 198)" == str(samples)
    assert "2.00 s (1.00–9.00)" == str(Samples.of([9, 1, 2], "s"))
    with pytest.raises(BenchError, match="Nothing was measured"):
        Samples.of([], "s")


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.01234, "0.0123"), (1.5, "1.50"), (99.96, "100.0"), (12_345.6, "12,346")],
)
def test_numbers_have_three_digits_that_count(value: float, text: str) -> None:
    assert text == short(value)


def test_tables_have_a_line_for_each_target_and_say_what_was_missed() -> None:
    both = [result(), result(ours=3)]
    both[0].targets.append(Target("≤ 250 MB", 70, 250, "MB"))

    lines = as_markdown(both).splitlines()

    assert "| migrate of 9 | 1.00 s | 2.00 s | 2.00 × | ≤ 2.5 × the floor | 2.00 × | met |" in lines
    assert "|  |  |  |  | ≤ 250 MB | 70.0 MB | met |" in lines
    assert lines[-1].endswith("| 3.00 × | missed |")
    assert 4 == len(as_text(both).splitlines())


def test_what_only_compares_has_a_table_of_its_own() -> None:
    compared = Result("messaging", "sends", Samples.of([40], "/s"), Samples.of([20], "/s"))

    both = as_markdown([compared, result()])

    assert both.index("| migrate of 9 |") < both.index("| sends | 20.0 /s | 40.0 /s | 2.00 × |")
    assert "\n\n| what | without | with syncd | ratio |\n" in both


def test_the_readme_gets_its_figures_between_the_marks_and_nowhere_else(tmp_path: Path) -> None:
    page = tmp_path / "README.md"
    page.write_text(f"# Title\n{BEGIN}\nold\n{END}\nThe rest.\n")

    for figures in ("first", "second\n"):
        update(page, figures)

    assert f"# Title\n{BEGIN}\n\nsecond\n\n{END}\nThe rest.\n" == page.read_text()
    page.write_text("# Title\n")
    with pytest.raises(BenchError, match="no place for the figures"):
        update(page, "third")
    assert "# Title\n" == page.read_text()


def test_the_readme_has_a_place_for_the_figures(tmp_path: Path) -> None:
    copy = tmp_path / "README.md"
    copy.write_text(README.read_text())

    update(copy, "figures")

    assert "figures" in copy.read_text()


def test_the_plot_is_svg_with_both_lines_and_the_same_bytes_again(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    for name in ("a.svg", "b.svg"):
        plot({1_000: result(), 10_000: result(ours=3)}, tmp_path / name)

    drawn = (tmp_path / "a.svg").read_text()
    assert drawn == (tmp_path / "b.svg").read_text()
    assert "syncd migrate" in drawn
    assert "10,000" in drawn


@pytest.mark.skipif(sys.platform != "linux", reason="an agent's use is read from /proc")
def test_a_run_that_is_stopped_leaves_no_agent_and_no_folder(tmp_path: Path) -> None:
    run = subprocess.Popen(
        [sys.executable, "-m", "tests.bench", "start", "idle-agent", "--tiny"],
        cwd=ROOT,
        env=os.environ | {"TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    with run:
        wait_for(lambda: pids_of_agents(tmp_path), 40)
        (pid,) = pids_of_agents(tmp_path)
        run.terminate()
        said, _ = run.communicate(timeout=40)

    assert 1 == run.returncode
    assert "start of `syncd status`" in said
    assert "idle-agent failed: interrupted" in said
    assert [] == os.listdir(tmp_path)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_plot_without_its_bench_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["start", "--plot", str(tmp_path / "plot.svg")])
    assert 2 == ended.value.code
    assert "--plot draws what 'sizes' measures" in capsys.readouterr().err


def test_an_unknown_name_is_said_with_those_that_there_are(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["migrat"])

    assert "there is no bench 'migrat'" in capsys.readouterr().err
