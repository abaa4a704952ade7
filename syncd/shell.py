"""PURE: words as a shell reads them, for the commands that hints name."""

from __future__ import annotations

import shlex
from collections.abc import Iterable


def quoted(word: object) -> str:
    """Return a text or path as one word of a command, also where it holds what cannot be seen.

    Such a word is quoted as bash, zsh, ksh and POSIX 2024 know it: ``$'…'``.
    """
    text = str(word)
    if text.isprintable():
        return shlex.quote(text)
    return f"$'{''.join(map(_escaped, text))}'"


def joined(words: Iterable[str]) -> str:
    """Return words as a command that a person can type."""
    return " ".join(map(quoted, words))


def _escaped(character: str) -> str:
    if character in "\\'":
        return f"\\{character}"
    if character.isprintable():
        return character
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # a byte of a file name that is not UTF-8
        return f"\\x{code - 0xDC00:02x}"
    if code < 0x80:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
