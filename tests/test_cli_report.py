"""``syncd report``: its figures are those of a history that is known, however they are shown."""

from __future__ import annotations

import json
import os
import re
import resource
import sys
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from syncd.cli import main
from syncd.cli.report_table import in_parts, sparkline
from tests.browser import CHROMIUM, Elements, dom, screenshot
from tests.calls import Call, on_a_terminal
from tests.projects import ONE, TWO, Project, nothing_written

pytestmark = pytest.mark.usefixtures("home")

NOW = datetime.now(UTC)


def past(days: int) -> datetime:
    """Return a moment that is so many days ago."""
    return NOW - timedelta(days=days, minutes=1)


def day(days: int) -> str:
    return past(days).astimezone().date().isoformat()


class Past:
    """A project whose cycles ran on days that are told."""

    def __init__(self, project: Project, begun: int) -> None:
        self.project = project
        self._seq = 0
        for number in (1, 2):
            project.receive(number, from_agent="qa")
        self.cycle(begun)

    def cycle(self, days: int) -> None:
        """Run a cycle, as of so many days ago."""
        project = self.project
        project.sync()
        project.sql(
            "UPDATE syncd_journal SET at = ? WHERE seq > ?", past(days).isoformat(), self._seq
        )
        ((self._seq,),) = project.sql("SELECT max(seq) FROM syncd_journal")

    def file(self, days: int, key: str = ONE) -> None:
        """Have somebody edit a file."""
        self.project.edit(f"inbox/{key}.md", "Body", f"File, {days}. Body")
        self.cycle(days)

    def row(self, days: int, key: str = ONE) -> None:
        """Have somebody change a row."""
        self.project.new.update(key, body=f"Row, {days}. Body")
        self.cycle(days)


@pytest.fixture
def ready(tmp_path: Path) -> Past:
    """Return a project that is SQL-only since 40 days, with 3 changes by SQL in the last 30."""
    made = Past(Project(tmp_path / "work" / "ready"), begun=50)
    made.file(45)
    made.file(40)
    made.row(35)
    made.row(3)
    made.project.new.update(ONE, priority="urgent")
    made.project.new.delete(TWO)
    made.cycle(2)
    return made


@pytest.fixture
def used(tmp_path: Path) -> Past:
    """Return a project with 3 changes from files and 2 by SQL, one conflict among either."""
    made = Past(Project(tmp_path / "work" / "used"), begun=50)
    project = made.project
    made.row(10)
    project.edit(f"inbox/{ONE}.md", "Row, 10", "File, 5")
    project.new.update(ONE, body="Row, 5")
    made.cycle(5)
    project.receive(3, from_agent="engineer")
    project.file(f"inbox/{TWO}.md").unlink()
    made.cycle(4)
    return made


@pytest.fixture
def work(tmp_path: Path, ready: Past, used: Past) -> Path:
    """Return a folder of projects at every stage."""
    work = tmp_path / "work"
    young = Past(Project(work / "young"), begun=9)
    young.row(1)
    Past(Project(work / "quiet"), begun=50)
    Project(work / "new").receive(1)
    Project(work / "empty").sync()
    Project(work / "broken").write("messaging.db", "no database" * 100)
    for other in work.glob("*-other"):
        other.rename(tmp_path / other.name)
    return work


def by_name(result: Any) -> dict[str, Any]:
    return {Path(one["path"]).name: one for one in result.json["projects"]}


def per_day(figures: dict[str, Any], origin: str) -> dict[str, int]:
    return {one["day"]: one[origin] for one in figures["per_day"] if one[origin]}


def test_the_figures_are_those_of_the_history(call: Call, work: Path) -> None:
    result = call("report", work, "--recursive", "--json")
    projects, total = by_name(result), result.json["total"]

    assert {
        "ready": "sql-only",
        "used": "files",
        "young": "too-early",
        "quiet": "quiet",
        "new": "never-synced",
        "empty": "too-early",
        "broken": "error",
    } == {name: one["stage"] for name, one in projects.items()}
    assert ["ready"] == [name for name, one in projects.items() if one["ready"]]
    assert f"syncd retire {work / 'ready'}" == projects["ready"]["retire"]
    assert 40 == projects["ready"]["days_without_files"]

    assert ({}, {day(3): 1, day(2): 2}) == (
        per_day(projects["ready"], "file"),
        per_day(projects["ready"], "db"),
    )
    assert ({day(5): 1, day(4): 2}, {day(10): 1, day(5): 1}) == (
        per_day(projects["used"], "file"),
        per_day(projects["used"], "db"),
    )
    assert {"file": 3, "db": 6} == total["changes"]
    assert {day(5): 1, day(4): 2} == per_day(total, "file")
    assert (30, day(0)) == (len(total["per_day"]), total["per_day"][-1]["day"])
    assert (7, 1) == (total["projects"], total["ready"])
    assert Counter(one["stage"] for one in projects.values()) == Counter(total["stages"])
    assert (1, 30, 30) == (
        result.json["version"],
        result.json["days"],
        result.json["ready_after"],
    )


def test_the_last_change_from_a_file_is_told_with_whose_it_was(
    call: Call, ready: Past, used: Past
) -> None:
    projects = by_name(call("report", ready.project.path, used.project.path, "--json"))
    assert {
        "at": past(40).isoformat(),
        "id": ONE,
        "agent": "pm",
        "project": str(ready.project.path),
    } == projects["ready"]["last"]["file"]
    assert past(4).isoformat() == projects["used"]["last"]["file"]["at"]
    assert past(2).isoformat() == projects["ready"]["last"]["db"]["at"]
    agents = [
        (one["agent"], Path(one["project"]).name, one["changes"], one["still_writes_files"])
        for one in projects["used"]["agents"]
    ]
    assert [
        ("engineer", "used-other", {"file": 1, "db": 0}, True),
        ("pm", "used", {"file": 2, "db": 2}, True),
    ] == sorted(agents)
    assert not any(one["still_writes_files"] for one in projects["ready"]["agents"])


def test_the_report_in_lines_says_the_same(call: Call, work: Path) -> None:
    with nothing_written(Project(work / "ready")):
        result = call("report", work, "--recursive")
    lines = dict(line.split(": ", 1) for line in result.out.splitlines() if ": " in line)
    assert 1 == result.code  # broken cannot be read
    assert lines[str(work / "ready")].startswith(
        "ready to retire: no file changed for 40 days; "
        "0 changes from files and 3 by SQL in 30 days; last from a file "
    )
    assert lines[str(work / "ready")].endswith(f", pm in {work / 'ready'}")
    assert lines[str(work / "used")].startswith(
        "files in use; 3 changes from files and 2 by SQL in 30 days; last from a file "
    )
    begun = (past(9).astimezone() + timedelta(days=30)).date()
    assert f"30 days can be told from {begun} on" in lines[str(work / "young")]
    assert "quiet: no change on either side for 30 days" in lines[str(work / "quiet")]
    assert "never synced" == lines[str(work / "new")]
    assert "too early to tell: the journal is empty" == lines[str(work / "empty")]
    assert "is not a SQLite database" in lines[str(work / "broken")]
    assert (
        "1 ready to retire, 1 with files in use, 1 quiet, 2 too early to tell, 1 never synced, "
        "1 unreadable"
    ) == lines["7 projects"]
    assert "\n3 changes from files and 6 by SQL in 30 days\n" in result.out
    assert "\n2 agents changed files within 30 days\n" in result.out
    assert f"syncd retire {work / 'ready'}" == lines["  → To retire it"]
    assert "'syncd migrate' builds a new one" in result.err


def test_on_a_terminal_there_is_a_table_with_bars(home: Path, ready: Past, used: Past) -> None:
    shown = on_a_terminal(home, "report", ready.project.path, used.project.path)
    assert "last change from a file" in shown
    assert "ready to retire" in shown
    assert re.search(r"files ·+ +0 ", shown)
    assert re.search(r"SQL   ·+[▁▂▃▄▅▆▇█·]+ 3 ", shown)
    assert f"{day(4)} (4 days ago)" in shown
    assert "\x1b" not in shown  # NO_COLOR


def test_a_window_is_told_in_days(call: Call, ready: Past) -> None:
    short = call("report", ready.project.path, "--json", "--days", 2)
    assert [day(1), day(0)] == [one["day"] for one in short.json["total"]["per_day"]]
    assert {"file": 0, "db": 0} == short.json["total"]["changes"]
    assert past(40).isoformat() == short.json["total"]["last"]["file"]["at"]
    long = call("report", ready.project.path, "--json", "--days", 60).json["total"]
    assert {"file": 2, "db": 4} == long["changes"]
    assert {day(45): 1, day(40): 1} == per_day(long, "file")
    for wrong in ("--days", "--ready-after"):
        assert 2 == call("report", ready.project.path, wrong, 0).code


def test_how_long_a_project_has_to_be_sql_only_can_be_said(call: Call, ready: Past) -> None:
    stages = {
        after: call("report", ready.project.path, "--json", "--ready-after", after).json["projects"]
        for after in (2, 39, 42, 60)
    }
    assert ["quiet", "sql-only", "files", "files"] == [one["stage"] for (one,) in stages.values()]
    assert [False, True, False, False] == [one["ready"] for (one,) in stages.values()]


def test_what_is_in_the_way_of_retiring_is_told(call: Call, ready: Past) -> None:
    project = ready.project
    project.sql("INSERT INTO syncd_conflicts VALUES ('m', 'body', '', 'file', 1)")
    odd = project.write("inbox/odd.md", "no message")
    project.sync()
    result = call("report", project.path)
    assert (
        "SQL-only: no file changed for 40 days, but it has 1 open conflict; 1 is quarantined"
        in (result.out)
    )
    assert "1 SQL-only but not ready\n" in result.out
    odd.unlink()
    project.sync()
    project.sql("DELETE FROM syncd_conflicts")
    project.edit(f"inbox/{ONE}.md", "Row, 3", "File, 0")
    (waiting,) = call("report", project.path, "--json").json["projects"]
    assert (False, ["not in step: 1 file changed since the last cycle"], None) == (
        waiting["ready"],
        waiting["reasons"],
        waiting["retire"],
    )


def test_a_quiet_project_is_not_said_to_be_in_step_when_it_is_not(
    call: Call, tmp_path: Path
) -> None:
    made = Past(Project(tmp_path / "p"), begun=50)
    project = made.project
    project.write("inbox/._hidden.md", "a file manager's own")
    assert "quiet: no change on either side for 30 days;" in call("report", project.path).out
    project.file(f"inbox/{ONE}.md").unlink()
    project.receive(3)
    project.new.update(TWO, priority="urgent")
    assert (
        "quiet: no change on either side for 30 days, "
        "but not in step: 2 files and 1 row changed since the last cycle;"
    ) in call("report", project.path).out


def test_a_halted_project_is_not_ready(call: Call, ready: Past) -> None:
    project = ready.project
    (project.base / "inbox").rename(project.path / "away")
    assert project.cycle().halt is not None
    (one,) = call("report", project.path, "--json").json["projects"]
    assert "it is halted" in one["reasons"]


def test_first_syncs_commands_and_restores_are_nobodys_change(
    call: Call, ready: Past, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ready.project.path)
    before = call("report", "--json").json["total"]["changes"]
    assert 0 == call("restore", ONE, "--version", 1).code
    assert 0 == call("restore", TWO).code
    assert before == call("report", "--json").json["total"]["changes"]


def test_a_pruned_journal_tells_only_of_the_days_that_it_still_has(
    call: Call, ready: Past, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SYNCD_JOURNAL_DAYS", "20")
    assert 0 == call("sync", ready.project.path).code
    a_day_ago = json.dumps(time.time() - 90_000)
    ready.project.sql("UPDATE syncd_state SET value = ? WHERE key LIKE '%_expired'", a_day_ago)
    assert 0 == call("sync", ready.project.path).code
    (one,) = call("report", ready.project.path, "--json").json["projects"]
    assert ("too-early", {"file": 0, "db": 3}) == (one["stage"], one["changes"])
    assert ["the journal is kept for 20 days (journal_days), so 30 days cannot be told"] == (
        one["reasons"]
    )
    # The last change of either side outlives the pruning, not what the journal is whole from.
    assert past(40).isoformat() == one["last"]["file"]["at"]
    assert one["journal_since"] > past(22).isoformat()
    (short,) = call("report", ready.project.path, "--json", "--ready-after", 15).json["projects"]
    assert short["ready"]


def test_a_change_of_what_was_deleted_counts_for_both_origins(call: Call, used: Past) -> None:
    project = used.project
    project.new.update(ONE, priority="urgent")
    project.file(f"inbox/{ONE}.md").unlink()
    used.cycle(1)
    (one,) = call("report", project.path, "--json", "--days", 2).json["projects"]
    assert {"file": 1, "db": 1} == one["changes"]


def test_the_agents_of_all_projects_are_put_together(
    call: Call, ready: Past, used: Past, tmp_path: Path
) -> None:
    for made in (ready, used):
        made.project.other = tmp_path / "sender"
        made.project.receive(7, from_agent="ops")
        made.cycle(1)
    total = call("report", ready.project.path, used.project.path, "--json").json["total"]
    (found,) = (one for one in total["agents"] if one["agent"] == "ops")
    assert (str(tmp_path / "sender"), {"file": 2, "db": 0}) == (found["project"], found["changes"])


@pytest.mark.parametrize(
    ("numbers", "parts", "sums"),
    [([1, 2, 3, 4], 2, [3, 7]), ([1, 2, 3], 2, [1, 5]), ([5], 1, [5]), ([1] * 30, 7, None)],
)
def test_bars_stand_for_runs_of_days(numbers: list[int], parts: int, sums: list[int]) -> None:
    found = in_parts(numbers, parts)
    assert (parts, sum(numbers)) == (len(found), sum(found))
    assert sums is None or sums == found


def test_bars_are_in_proportion_and_nothing_is_no_bar() -> None:
    assert "·▁▁▄▅█" == sparkline([0, 1, 10, 40, 41, 80], 80)
    assert "··" == sparkline([0, 0], 0)


# The page


@pytest.fixture(scope="session")
def _matplotlib(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Have matplotlib keep what it knows of fonts in a folder of the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MPLCONFIGDIR", str(tmp_path_factory.mktemp("matplotlib")))
        pytest.importorskip("matplotlib.font_manager")


HOSTILE = "<script>document.title='x'</script>&lt;\u202e$x^2$\"'" + "w" * 200


def check_figures(document: str, figures: dict[str, Any]) -> None:
    """Assert that a page shows the figures of the report's JSON, in numbers and in plots."""
    page, total = Elements(document), figures["total"]
    assert {
        "projects": f"{total['projects']}",
        "ready": f"{total['ready']}",
        "in-files": f"{total['stages']['files']}",
        "from-files": f"{total['changes']['file']}",
        "by-sql": f"{total['changes']['db']}",
    } == page.with_attribute("data-figure")
    assert sum(total["stages"].values()) == sum(
        int(text.split()[0]) for text in page.with_attribute("data-stage").values()
    )
    marks = Counter(
        (mark["data-day"], mark["data-origin"], int(mark["data-number"]))
        for mark in page.attributes_of("data-day")
    )
    days = total["per_day"]
    drawn: Counter[tuple[str, str, int]] = Counter()
    for origin in ("file", "db"):
        for place, one in enumerate(days):
            active = sum(bool(p["per_day"][place][origin]) for p in figures["projects"])
            drawn[one["day"], origin, active] += 2  # for wide windows and for narrow ones
            if one[origin]:
                drawn[one["day"], origin, one[origin]] += 2
    assert drawn == marks
    for project in figures["projects"]:
        assert (project["retire"] or "") in document


@pytest.mark.usefixtures("_matplotlib")
def test_the_page_has_the_figures_and_needs_nothing_beside_it(
    call: Call, work: Path, tmp_path: Path
) -> None:
    page = tmp_path / "report.html"
    figures = call("report", work, "--recursive", "--json", "--html", page)
    document = page.read_text("utf-8")
    assert figures.err.endswith(f"the page stands in {page}\n")
    check_figures(document, figures.json)
    assert set() == Elements(document).names() & {"script", "link", "img", "iframe", "image"}
    assert set() == set(re.findall(r"url\((?!#)[^)]*\)|https?://[^\"' ]+|@import", document))
    ids = re.findall(r'\sid="([^"]*)"', document)
    assert len(ids) == len(set(ids))


@pytest.mark.usefixtures("_matplotlib")
@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium to open the page in")
def test_a_browser_shows_the_figures_of_the_database_in_light_and_dark(
    call: Call, work: Path, used: Past, tmp_path: Path
) -> None:
    used.project.other = tmp_path / "used-other"
    used.project.receive(8, from_agent=HOSTILE)
    used.cycle(1)
    page, probed = tmp_path / "report.html", tmp_path / "probed.html"
    figures = call("report", work, "--recursive", "--json", "--html", page).json
    probe = "<script>document.body.dataset.width = document.documentElement.scrollWidth</script>"
    probed.write_text(page.read_text("utf-8").replace("</body>", f"{probe}</body>"), "utf-8")

    document = dom(probed, width=500)
    check_figures(document, figures)
    elements = Elements(document)
    assert 1 == sum(name == "script" for name, _, _ in elements.found)  # the probe itself
    assert {"500": ""} == dict.fromkeys(elements.with_attribute("data-width"), "")
    assert "How far the migration is: 7 projects" in document
    ((changes,),) = used.project.sql(
        "SELECT count(*) FROM syncd_journal WHERE side = 'db' AND why != 'first sync' "
    )
    assert f'data-figure="from-files">{changes}<' in document

    from matplotlib.image import imread

    corners = []
    for dark in (False, True):
        picture = tmp_path / f"{dark}.png"
        screenshot(page, picture, dark=dark)
        corners.append(float(imread(picture)[5, 5, :3].mean()))
    assert corners[0] > 0.9
    assert corners[1] < 0.2


@pytest.mark.usefixtures("_matplotlib")
def test_a_page_of_an_empty_project_and_of_many_days_can_be_drawn(
    shop: Project, tmp_path: Path
) -> None:
    shop.sync()
    for days in ("1", "400"):
        assert 0 == main(["report", "--html", str(tmp_path / "page.html"), "--days", days])
    assert "too early to tell" in (tmp_path / "page.html").read_text("utf-8")


def test_without_matplotlib_the_page_says_how_to_install_it(
    call: Call, shop: Project, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    result = call("report", "--html", tmp_path / "page.html")
    assert (1, "") == (result.code, result.out)
    assert "pip install 'syncd[report]'" in result.err
    assert not (tmp_path / "page.html").exists()


def test_a_page_that_cannot_be_written_is_an_error(call: Call, shop: Project) -> None:
    result = call("report", "--html", shop.path / "no" / "page.html")
    assert (2, "") == (result.code, result.out)
    assert f"there is no folder {shop.path / 'no'}" in result.err


def test_a_page_for_a_folder_is_refused(call: Call, shop: Project) -> None:
    result = call("report", "--html", shop.path)
    assert (2, "") == (result.code, result.out)
    assert f"{shop.path} is a folder" in result.err


@pytest.mark.usefixtures("_matplotlib")
def test_an_earlier_page_stands_until_a_new_one_is_whole(
    call: Call, shop: Project, tmp_path: Path
) -> None:
    shop.sync()
    folder = tmp_path / "pages"
    folder.mkdir()
    (folder / "page.html").write_text("The former one.")
    (folder / "page.html").chmod(0o640)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))  # as little as is left on a full disk
    try:
        result = call("report", "--html", folder / "page.html")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (1, "") == (result.code, result.out)
    assert f"the page cannot be written to {folder / 'page.html'}: file too large" in result.err
    assert {"page.html": "The former one."} == {
        path.name: path.read_text() for path in folder.iterdir()
    }
    assert 0 == call("report", "--html", folder / "page.html").code
    assert "<html" in (folder / "page.html").read_text("utf-8")
    assert 0o640 == (folder / "page.html").stat().st_mode & 0o777
    assert ["page.html"] == os.listdir(folder)


@pytest.mark.usefixtures("_matplotlib")
def test_a_page_may_be_written_where_nothing_may_be_put(
    call: Call, shop: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.sync()
    page = tmp_path / "page.html"
    page.write_text("The former one.")
    inode = page.stat().st_ino
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: path != tmp_path and access(path, mode))
    assert 0 == call("report", "--html", page).code
    assert ("<html" in page.read_text("utf-8"), inode) == (True, page.stat().st_ino)


def test_a_journal_whose_first_time_is_the_end_of_all_time_is_no_end_of_the_report(
    call: Call, ready: Past
) -> None:
    work = ready.project.path.parent
    odd = Past(Project(work / "odd"), begun=50).project
    odd.sql("UPDATE syncd_journal SET at = '9999-12-31T00:00:00+00:00'")
    found = call("report", work, "--recursive")
    assert 0 == found.code
    assert "the journal's first time, '9999-12-31T00:00:00+00:00', is none" in found.out


def test_blobs_that_somebody_put_into_the_journal_are_counted_as_text(
    call: Call, used: Past
) -> None:
    before = call("report", used.project.path, "--json").json["projects"]
    used.project.sql("UPDATE syncd_journal SET why = CAST(why AS BLOB)")
    assert before == call("report", used.project.path, "--json").json["projects"]
