"""Values as people type and read them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilot.ctl.values import (
    duration_text,
    local_time_text,
    measured_text,
    parse_duration,
    parse_integer,
    parse_node_id,
    parse_port,
    printable,
    size_text,
    uptime_text,
)
from pilot.errors import InvalidArgument


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1.5s", 1.5),
        ("1m30s", 90),
        ("2500ms", 2.5),
        ("100us", 0.0001),
        ("100µs", 0.0001),
        ("7ns", 7e-9),
        ("1h", 3600),
        ("5000", 5000),
        ("0.5", 0.5),
        (".5", 0.5),
        ("0", 0),
        ("-5", -5),
        ("-1m", -60),
        ("+3s", 3),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text, "timeout") == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-",
        "soon",
        "1x",
        "1m5",
        "5 s",
        "1..2s",
        "s",
        ".",
        ".s",
        "1e3",
        "inf",
        "٣s",
        "9" * 30 + "h",
    ],
)
def test_no_durations(text: str) -> None:
    with pytest.raises(InvalidArgument, match="invalid duration for --timeout"):
        parse_duration(text, "timeout")


@given(st.text(alphabet="0123456789.-+smhnuµ ", max_size=12))
def test_any_duration_is_read_or_refused(text: str) -> None:
    """Whatever is read can be written and read again."""
    try:
        seconds = parse_duration(text, "timeout")
    except InvalidArgument:
        return
    again = parse_duration(duration_text(seconds), "timeout")
    assert again == pytest.approx(seconds, abs=1e-9, rel=1e-12)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (1, "1s"),
        (1.5, "1.5s"),
        (60, "1m0s"),
        (3600, "1h0m0s"),
        (3661.25, "1h1m1.25s"),
        (0.5, "500ms"),
        (0.0000123, "12.3µs"),
        (1e-9, "1ns"),
        (-90, "-1m30s"),
    ],
)
def test_duration_text(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text


def test_measured_text() -> None:
    """Three digits after the point are enough for what was measured."""
    assert measured_text(0.0012345678) == "1.235ms"
    assert measured_text(0.00001234567) == "12.346µs"
    assert measured_text(2.3456789) == "2.346s"


def test_ports_and_ids() -> None:
    assert parse_port("0") == 0 and parse_port("65535") == 65535 and parse_port("007") == 7
    assert parse_node_id("4294967295") == 4294967295
    for text in ("", "x", "-1", "65536", "7.0", " 7", "٧", "1" * 5000):
        with pytest.raises(InvalidArgument, match="invalid port"):
            parse_port(text)
    with pytest.raises(InvalidArgument, match="invalid connection ID"):
        parse_node_id("4294967296", "invalid connection ID")


def test_integers() -> None:
    assert parse_integer("-12", "count") == -12 and parse_integer("+3", "count") == 3
    for text in ("", "-", "x", "1_000", "1.0", "9" * 40):
        with pytest.raises(InvalidArgument, match="invalid integer for --count"):
            parse_integer(text, "count")


def test_sizes_and_times() -> None:
    assert [size_text(size) for size in (0, 1023, 1024, 1572864, 3 << 30)] == [
        "0 B",
        "1023 B",
        "1.0 KB",
        "1.5 MB",
        "3.0 GB",
    ]
    assert uptime_text(59.9) == "00:00:59" and uptime_text(360000) == "100:00:00"
    assert local_time_text(None) == "-" and local_time_text(1e30) == "-"
    assert len(local_time_text(1775000000)) == len("2026-04-01 10:00:00")


def test_printable() -> None:
    """Nothing a peer sends can move a cursor, ring a bell or turn text round."""
    assert printable("plain → text") == "plain → text"
    assert printable("a\x1b[31mb\x07\x9b\u202e\r") == "a\\x1b[31mb\\x07\\x9b\\u202e\\r"
    assert printable("two\nlines", keep="\n") == "two\nlines"
    assert printable("\udc80") == "\\udc80"
