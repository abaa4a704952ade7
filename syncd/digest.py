"""PURE: BLAKE2b, by which bytes and texts are known again.

``hashlib`` hands out the same function, but loads OpenSSL first: more than a tenth of all that a
short command of ours takes beside Python and the command line's parser.
"""

from __future__ import annotations

try:
    from _blake2 import blake2b
except ImportError:  # a Python that is built without it has it in ``hashlib`` only
    from hashlib import blake2b

__all__ = ["blake2b"]
