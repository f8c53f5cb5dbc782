"""Reading requests: wrong types are defaults, base64 is the reference's."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilot.registry.fields import decode_base64, flag, number, quoted, text, texts, u16, u32
from pilot.registry.names import check_hostname, check_network_name, normal_tags
from pilot.registry.refusal import MASKED, Refusal, visible


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        (7, 7),
        (1.9, 1),
        (1e0, 1),
        (4294967295, 4294967295),
        (4294967296, 0),
        (4294967295.5, 0),
        (-1, 0),
        (-0.5, 0),
        ("1", 0),
        (True, 0),
        (None, 0),
        ([1], 0),
        ({}, 0),
    ],
)
def test_an_id_is_a_number_in_range_or_zero(value: Any, wanted: int) -> None:
    assert u32({"n": value}, "n") == wanted


def test_missing_fields_are_defaults() -> None:
    assert (u32({}, "x"), u16({}, "x"), text({}, "x"), flag({}, "x")) == (0, 0, "", False)
    assert (texts({}, "x"), number({}, "x")) == ([], None)


def test_wrong_types_are_defaults() -> None:
    """No truth, no numbers out of booleans, no text out of numbers."""
    assert u16({"n": 65536}, "n") == 0
    assert text({"t": 5}, "t") == ""
    assert flag({"b": "true"}, "b") is False
    assert flag({"b": 1}, "b") is False
    assert texts({"l": ["a", 5, None, "b"]}, "l") == ["a", "b"]
    assert texts({"l": "ab"}, "l") == []
    assert number({"n": True}, "n") is None
    assert number({"n": "5"}, "n") is None


@given(st.binary(max_size=80), st.lists(st.integers(0, 110), max_size=4))
def test_base64_may_hold_line_breaks(data: bytes, breaks: list[int]) -> None:
    encoded = base64.b64encode(data).decode()
    for place in breaks:
        encoded = encoded[:place] + "\r\n" + encoded[place:]
    assert decode_base64(encoded) == data


@given(st.text(alphabet="ABCDwxyz0189+/=-_\n\r é*", max_size=24) | st.text(max_size=12))
def test_any_text_is_base64_or_refused(encoded: str) -> None:
    """The error names a byte within the text or just behind it."""
    try:
        decode_base64(encoded)
    except Refusal as error:
        place = int(error.message.removeprefix("illegal base64 data at input byte "))
        assert 0 <= place <= len(encoded.encode("utf-8", "surrogatepass"))


@pytest.mark.parametrize(
    ("encoded", "place"),
    [
        ("!!!!", 0),
        ("AAA", 0),
        ("AAAAA", 4),
        ("AAAA=", 4),
        ("AA=A", 2),
        ("AA==x", 4),
        ("AA=", 3),
        ("AAAAAA-A", 6),
        ("AAA=AAAA", 4),
    ],
)
def test_the_first_wrong_byte_is_named(encoded: str, place: int) -> None:
    with pytest.raises(Refusal, match=f"input byte {place}$"):
        decode_base64(encoded)


def test_unused_bits_may_be_anything() -> None:
    assert decode_base64("AB==") == b"\x00"


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        ("plain é", '"plain é"'),
        ('a"b\\c', r'"a\"b\\c"'),
        ("\n\t\x01\x7f", r'"\n\t\x01\x7f"'),
        ("\u2028\U000e0001", r'"\u2028\U000e0001"'),
        ("�", '"�"'),
    ],
)
def test_texts_in_errors_are_quoted_with_escapes(value: str, wanted: str) -> None:
    assert quoted(value) == wanted


@pytest.mark.parametrize("name", ["a", "0", "a--b", "a" * 63])
def test_good_names(name: str) -> None:
    check_hostname(name)
    check_network_name(name)


@pytest.mark.parametrize("name", ["", "-a", "a-", "A", "a_b", "a.b", "é", "a\n", "a" * 64])
def test_bad_names(name: str) -> None:
    for check in (check_hostname, check_network_name):
        with pytest.raises(Refusal):
            check(name)


def test_reserved_names() -> None:
    for name in ("localhost", "backbone", "broadcast"):
        with pytest.raises(Refusal, match="is reserved"):
            check_hostname(name)
    check_network_name("localhost")


def test_tags_lose_one_hash_and_their_doubles() -> None:
    assert normal_tags(["web", "#api", "web", "#web"], 10, "tags") == ("web", "api")
    for bad in ([""], ["#"], ["##x"], ["UP"], ["a b"], ["-a"], ["a" * 33]):
        with pytest.raises(Refusal):
            normal_tags(bad, 10, "tags")
    with pytest.raises(Refusal, match=r"too many member tags \(max 2\)"):
        normal_tags(["a", "b", "c"], 2, "member tags")


def test_only_harmless_texts_pass_the_mask() -> None:
    assert visible("node 3: node not found") == "node 3: node not found"
    assert visible("signature verification failed") == MASKED
    assert visible("registration requires public_key") == MASKED
