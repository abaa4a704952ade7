"""The page of ``syncd report --html``: one file that needs nothing beside it, and no script.

What comes from messages, agents and projects is text that anybody may have written: it is shown as
on a terminal (`shown`), and escaped.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Iterator
from pathlib import Path

from syncd.cli import progress_words as words
from syncd.cli.findings import number_of
from syncd.cli.output import shown
from syncd.cli.report_plots import buckets, stacked_bars, two_lines
from syncd.core.sides import Side
from syncd.progress import Progress, Stage, Survey

_STYLE = Path(__file__).with_suffix(".css")
_MOST_CALLS = 50
_MOST_WRITERS = 200


def page(survey: Survey) -> str:
    """Return the whole page."""
    parts = "\n".join((*_head(survey), *_plots(survey), *_lists(survey), *_projects(survey)))
    return (
        "<!doctype html>\n"
        '<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="generator" content="syncd report">\n'
        f"<title>How far the migration is: {_text(words.summary(survey))}</title>\n"
        f"<style>\n{_STYLE.read_text('utf-8')}</style>\n</head>\n"
        f"<body>\n<main>\n{parts}\n</main>\n</body>\n</html>\n"
    )


def _text(text: object) -> str:
    return html.escape(shown(str(text)))


def _head(survey: Survey) -> Iterator[str]:
    window, total = survey.window, survey.total
    days = number_of(window.days, "day")
    yield "<header><h1>How far the migration is</h1>"
    yield f'<p class="soft">As of {_text(words.as_of(survey))}; the last {days}.</p></header>'
    yield '<dl class="tiles">'
    for name, kind, number, label in (
        ("projects", "", len(survey.projects), "projects"),
        ("ready", "ready", len(survey.ready), words.READY),
        ("in-files", "files", survey.stages()[Stage.FILES], "projects with files in use"),
        ("from-files", "files", total.total(Side.FILE), f"changes from files in {days}"),
        ("by-sql", "sql", total.total(Side.DB), f"changes by SQL in {days}"),
    ):
        value = f'<dd data-figure="{name}">{number:,}</dd>'
        yield f'<div class="{kind}"><dt>{_text(label)}</dt>{value}</div>'
    yield "</dl>"
    yield '<section><h2>Where the projects are</h2><div class="stages" aria-hidden="true">'
    groups = words.groups(survey)
    for label, stage, number in groups:
        kind = "ready" if label == words.READY else stage
        yield f'<span class="is-{kind}" style="flex: {number}" title="{number:,} {label}"></span>'
    yield '</div><ul class="legend">'
    for label, stage, number in groups:
        kind = "ready" if label == words.READY else stage
        yield f'<li class="is-{kind}"><b data-stage="{kind}">{number:,}</b> {label}</li>'
    yield "</ul></section>"


_LEGEND = (
    '<ul class="legend" aria-hidden="true"><li class="is-files">from files</li>'
    '<li class="is-sql">by SQL</li></ul>'
)


def _plots(survey: Survey) -> Iterator[str]:
    dates, total = survey.window.dates, survey.total
    changes = {side: total.series(side) for side in Side}
    active = {side: survey.active_projects(side) for side in Side}
    for name, title, label, plot in (
        (
            "changes",
            "Changes per day",
            "What clients and people changed, by where they changed it.",
            stacked_bars("changes", buckets(dates, changes, by_sum=True), "change"),
        ),
        (
            "active",
            "Projects per day",
            "In how many projects files or rows were changed.",
            two_lines("active", buckets(dates, active, by_sum=False), "project"),
        ),
    ):
        yield (
            f'<section><figure id="{name}"><h2>{title}</h2>'
            f"<figcaption>{label}</figcaption>{_LEGEND}{plot}</figure></section>"
        )


def _lists(survey: Survey) -> Iterator[str]:
    window, ready, late = survey.window, survey.ready, survey.file_writers
    yield '<section id="ready"><h2>Ready to retire</h2>'
    after = number_of(window.ready_after, "day")
    if ready:
        yield f"<p>For {after} or more no file was changed, and rows were.</p>"
        calls = (f"<li><code>{_text(words.retire_call(one))}</code></li>" for one in ready)
        yield f'<ul class="calls">{"".join(list(calls)[:_MOST_CALLS])}</ul>'
        yield _more(len(ready) - _MOST_CALLS)
    else:
        yield f"<p>No project yet: for {after} no file may change, and rows have to.</p>"
    yield "</section>"
    yield '<section id="agents"><h2>Agents that still write files</h2>'
    yield f"<p>{_text(words.writers(survey).capitalize())}.</p>"
    if late:
        rows = (
            _row(
                ("who wide", "Agent", f"<b>{_text(one.agent)}</b> in {_text(one.project)}"),
                ("number", "From files", f"{one.counts[Side.FILE]:,}"),
                ("number", "By SQL", f"{one.counts[Side.DB]:,}"),
                ("", "Last file", _text(words.day_and_age(one.last[Side.FILE], window))),
            )
            for one in late[:_MOST_WRITERS]
        )
        yield _table(("Agent", "From files", "By SQL", "Last file"), rows)
        yield _more(len(late) - _MOST_WRITERS)
    yield "</section>"


def _projects(survey: Survey) -> Iterator[str]:
    yield '<section id="projects"><h2>Projects</h2>'
    order = {stage: place for place, stage in enumerate(Stage)}
    projects = sorted(survey.projects, key=lambda one: (not one.is_ready, order[one.stage]))
    titles = ("Project", "Files up, SQL down", "From files", "By SQL", "Last from a file")
    yield _table(titles, (_project(one, survey) for one in projects))
    yield "</section>"
    yield '<section><h2>What these figures do not tell</h2><ul class="limits soft">'
    yield from (f"<li>{_text(limit)}</li>" for limit in words.LIMITS)
    yield "</ul></section>"


def _project(one: Progress, survey: Survey) -> str:
    files, rows = words.counts_of(one)
    kind = "ready" if one.is_ready else one.stage
    why = words.explanation(one, survey.window)
    name = f'<div class="path">{_text(one.project)}</div>'
    stage = f'<span class="stage is-{kind}">{_text(words.stage_words(one))}</span>'
    note = f' <span class="soft">{_text(why)}</span>' if why else ""
    project = ("wide", "Project", f"{name}<div>{stage}{note}</div>")
    if one.since is None:
        return _row(project, *[("", "", "")] * 4)
    last = one.figures.last.get(Side.FILE)
    who = "none known"
    if last is not None:
        day = words.day_and_age(last.at, survey.window)
        who = f'<div>{_text(day)}<div class="soft who">{_text(words.whose(last))}</div></div>'
    return _row(
        project,
        ("", "Files up, SQL down", _spark(one)),
        ("number", "From files", f"{files:,}"),
        ("number", "By SQL", f"{rows:,}"),
        ("", "Last from a file", who),
    )


def _spark(one: Progress) -> str:
    """Return small bars, those of files upwards and those of SQL downwards, on one scale."""
    series = {side: one.figures.series(side) for side in Side}
    top = max(1, *(max(numbers) for numbers in series.values()))
    paths = []
    for side, up in ((Side.FILE, -1), (Side.DB, 1)):
        bars = (
            f"M{day}.1 10v{up * max(1, round(9.5 * number / top, 1)):g}h.8V10z"
            for day, number in enumerate(series[side])
            if number
        )
        paths.append(f'<path class="{side}" d="{"".join(bars)}"/>')
    days = len(one.figures.days)
    return (
        f'<svg class="spark" viewBox="0 0 {days} 20" preserveAspectRatio="none" aria-hidden="true">'
        f'{"".join(paths)}<line x1="0" y1="10" x2="{days}" y2="10"/></svg>'
    )


def _table(titles: Iterable[str], rows: Iterable[str]) -> str:
    numbers = ("From files", "By SQL")
    heads = "".join(
        f'<th scope="col"{" class=number" if title in numbers else ""}>{title}</th>'
        for title in titles
    )
    return f"<table><thead><tr>{heads}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


def _row(*cells: tuple[str, str, str]) -> str:
    """Return a row of cells: kind, title (shown beside it in a narrow window), and what it holds.

    What a cell holds is HTML.
    """
    parts = (
        f'<td class="{kind}" data-label="{title}">{inside}</td>' if inside else "<td></td>"
        for kind, title, inside in cells
    )
    return f"<tr>{''.join(parts)}</tr>\n"


def _more(number: int) -> str:
    return f'<p class="soft">and {number:,} more</p>' if number > 0 else ""
