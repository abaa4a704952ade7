"""The README's figures: the part between two marks, and the plot beside the fixtures."""

from __future__ import annotations

from pathlib import Path

from tests.bench.figures import require
from tests.running import ROOT

README = ROOT / "README.md"
PLOT = ROOT / "fixtures" / "readme" / "sizes.svg"
PICTURE = (
    "![What a message costs in migrate, against how many there are]"
    f"({PLOT.relative_to(ROOT).as_posix()})"
)
BEGIN = "<!-- measured: scripts/bench --readme writes this part -->"
END = "<!-- end of what was measured -->"


def update(path: Path, figures: str) -> None:
    """Replace what stands between the marks, and nothing else; raises `BenchError` without them."""
    text = path.read_text(encoding="utf-8")
    require(
        text.count(BEGIN) == text.count(END) == 1,
        f"{path} has no place for the figures: one line '{BEGIN}', one line '{END}'.",
    )
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    path.write_text(f"{before}{BEGIN}\n\n{figures.strip()}\n\n{END}{after}", encoding="utf-8")
