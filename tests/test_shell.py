"""Words of commands: what a hint names is, typed in, the very text that is meant."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syncd.shell import joined, quoted

BASH = shutil.which("bash")


@pytest.mark.skipif(BASH is None, reason="there is no bash")
@settings(max_examples=60)
@given(
    st.lists(
        st.one_of(
            st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])),
            st.binary(max_size=8).map(lambda data: os.fsdecode(data.replace(b"\0", b"\n"))),
            st.sampled_from(["a b", "it's", "\\", "line\nbreak", "'\t'", "\u202eright", "é"]),
        ),
        max_size=5,
    )
)
def test_a_shell_reads_the_words_that_were_meant(words: list[str]) -> None:
    call = joined(["printf", "%s\\0", *words]) if words else "true"
    done = subprocess.run(
        [BASH or "", "-c", call],
        env={"LC_ALL": "C.UTF-8"},
        capture_output=True,
        timeout=30,
        check=True,
    )
    assert [os.fsencode(word) for word in words] == done.stdout.split(b"\0")[:-1]
    assert all(quoted(word).isprintable() for word in words)
