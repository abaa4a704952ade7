"""PURE: BLAKE2b, by which bytes, texts and plain values are known again.

``hashlib`` hands out the same function, but loads OpenSSL first: more than a tenth of all that a
short command of ours takes beside Python and the command line's parser.
"""

from __future__ import annotations

import marshal
from typing import Any

try:
    from _blake2 import blake2b
except ImportError:  # a Python that is built without it has it in ``hashlib`` only
    from hashlib import blake2b

__all__ = ["blake2b", "digest_of", "digest_of_values"]


def digest_of(data: bytes) -> bytes:
    """Return the digest by which bytes are known again."""
    return blake2b(data, digest_size=16).digest()


def digest_of_values(values: tuple[Any, ...] | list[Any]) -> bytes:
    """Return the digest by which plain values, as `marshal` takes them, are known again."""
    return blake2b(marshal.dumps(values, 2), digest_size=16).digest()
