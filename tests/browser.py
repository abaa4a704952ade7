"""A headless Chromium, for what only a browser can tell of a page."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from html.parser import HTMLParser
from pathlib import Path

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")

_OPTIONS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
)
_DARK = "--blink-settings=preferredColorScheme=0"


def _run(page: Path, *options: str) -> str:
    assert CHROMIUM is not None
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        command = [CHROMIUM, *_OPTIONS, f"--user-data-dir={profile}", *options, page.as_uri()]
        done = subprocess.run(command, capture_output=True, text=True, timeout=50, check=True)
    return done.stdout


def dom(page: Path, width: int) -> str:
    """Return the page's document as it stands when it is loaded, in a window of this width."""
    return _run(page, f"--window-size={width},800", "--dump-dom")


def screenshot(page: Path, to: Path, *, dark: bool = False) -> None:
    """Take a picture of the page in a light scheme or a dark one."""
    _run(page, "--window-size=900,700", f"--screenshot={to}", *([_DARK] if dark else []))


class Elements(HTMLParser):
    """All elements of a document: name and attributes, and the text right in each."""

    def __init__(self, document: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str], list[str]]] = []
        self.feed(document)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, {name: value or "" for name, value in attrs}, []))

    def handle_data(self, data: str) -> None:
        if self.found:
            self.found[-1][2].append(data)

    def with_attribute(self, name: str) -> dict[str, str]:
        """Return the text of each element that has an attribute, by the attribute's value."""
        return {
            attributes[name]: "".join(text).strip()
            for _, attributes, text in self.found
            if name in attributes
        }

    def attributes_of(self, name: str) -> list[dict[str, str]]:
        """Return the attributes of each element that has this one."""
        return [attributes for _, attributes, _ in self.found if name in attributes]

    def names(self) -> set[str]:
        return {name for name, _, _ in self.found}
