"""Names that peers choose, and what becomes of them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilot.services.filenames import MAX_STORED_NAME, readable, stored_name

STAMP = "20261120-160042.744"


@pytest.mark.parametrize(
    "sent, stored",
    [
        ("report.pdf", "report-S.pdf"),
        ("a.tar.gz", "a.tar-S.gz"),
        ("noext", "noext-S"),
        ("name.", "name-S."),
        (".bashrc", "-S.bashrc"),
        (".", "-S."),
        ("a b.txt", "a b-S.txt"),
        ("résumé.pdf", "résumé-S.pdf"),
        ("", "-S"),
        # Not as they were sent:
        ("../../x", "_..%2F.-S.%2Fx"),
        ("..", "_.-S."),
        ("...", "_..-S."),
        (".a.b", "_.a-S.b"),
        ("C:\\x", "C:%5Cx-S"),
        ("a\0b.txt", "a%00b-S.txt"),
        ("a\nb\x1b[2J.txt", "a%0Ab%1B[2J-S.txt"),
        ("a\x9bb", "a%C2%9Bb-S"),
        ("CON", "CON-S"),  # with the stamp it is no device any more
        ("con.tar.gz", "_con.tar-S.gz"),
        ("LPT1 .a.b", "_LPT1 .a-S.b"),
        ("control.tar.gz", "control.tar-S.gz"),
    ],
)
def test_names(sent: str, stored: str) -> None:
    assert stored_name(sent.encode(), STAMP).decode() == stored.replace("S", STAMP)


def test_copies_are_numbered() -> None:
    assert stored_name(b"a.txt", STAMP, 2) == f"a-{STAMP}-2.txt".encode()


def test_what_is_no_text_is_kept() -> None:
    assert stored_name(b"a\xffb.\xfe", STAMP) == b"a\xffb-" + STAMP.encode() + b".\xfe"
    assert readable(b"a\xff\xffb\xc3\xa9") == "a\ufffd\ufffdbé"


def test_as_much_as_fits() -> None:
    """235 bytes and the stamp fill a name; whatever is longer loses the end of its stem."""
    assert stored_name(b"n" * 231 + b".txt", STAMP) == b"n" * 231 + f"-{STAMP}.txt".encode()
    assert stored_name(b"n" * 251 + b".txt", STAMP) == b"n" * 231 + f"-{STAMP}.txt".encode()
    assert stored_name(b"n" * 251 + b".txt", STAMP, 7) == b"n" * 229 + f"-{STAMP}-7.txt".encode()
    umlauts = stored_name("ö".encode() * 200 + b".txt", STAMP)
    assert umlauts == "ö".encode() * 115 + f"-{STAMP}.txt".encode()
    suffix = stored_name(b"stem." + b"s" * 250, STAMP)
    assert suffix == f"stem-{STAMP}.".encode() + b"s" * 230


@given(st.binary(max_size=400) | st.text(max_size=300).map(str.encode), st.integers(0, 9999))
def test_any_name_becomes_one_that_is_safe(name: bytes, copy: int) -> None:
    stored = stored_name(name, STAMP, copy)
    assert 0 < len(stored) <= MAX_STORED_NAME
    assert not any(byte in stored for byte in (*range(32), 127, ord("/"), ord("\\")))
    assert not stored.startswith(b".")
    assert STAMP.encode() in stored


def test_the_file_system_takes_them(tmp_path: Path) -> None:
    for name in (b"a\xffb", b"..", b"n" * 300, b"x" * 20 + b"." + b"y" * 300):
        path = os.path.join(os.fsencode(tmp_path), stored_name(name, STAMP))
        with open(path, "wb"):
            pass
    assert len(list(tmp_path.iterdir())) == 4
