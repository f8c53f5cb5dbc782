from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilot.errors import WireError
from pilot.wire.jsontext import MAX_NESTING, dump, load, load_pairs
from tests.strategies import hostile, json_values


@pytest.mark.parametrize(
    "document",
    [
        "",
        " ",
        "{",
        "{}x",
        "{} {}",
        "{,}",
        '{"a":1,}',
        "[1,]",
        "{'a':1}",
        "{a:1}",
        '{"a":01}',
        '{"a":+1}',
        '{"a":.5}',
        '{"a":1.}',
        '{"a":0x1}',
        '{"a":1_0}',
        '{"a":NaN}',
        '{"a":Infinity}',
        '{"a":-Infinity}',
        '{"a":1e400}',
        '{"a":-1e400}',
        '{"a":' + 400 * "9" + "}",
        '{"a":' + 5000 * "9" + "}",
        '{"a":"\n"}',
        '{"a":"\x00"}',
        '{"a":"\x1f"}',
        '{"a":"\\x41"}',
        '{"a":"\\u12"}',
        '{"a":"\\u+123"}',
        '{"a":"\\',
        '{"a":"\\ud800',
        "\ufeff{}",
        "\u00a0{}",
        "\x0b{}",
        "/**/{}",
        "True",
        "{}\0",
    ],
    ids=lambda document: ascii(document)[:30],
)
def test_what_is_malformed(document: str) -> None:
    for read in (load, load_pairs):
        with pytest.raises(WireError, match="JSON"):
            read(document.encode("utf-8"))


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
def test_no_other_encoding_is_guessed(encoding: str) -> None:
    with pytest.raises(WireError):
        load('{"a":1}'.encode(encoding))


@pytest.mark.parametrize(
    ("document", "value"),
    [
        (b" \t\r\n{} \n", {}),
        (b"null", None),
        (b'{"a":1,"a":2}', {"a": 2}),
        (b'{"a":1e0,"b":1.5,"c":-0}', {"a": 1.0, "b": 1.5, "c": 0}),
        (b'{"a":18446744073709551616}', {"a": 2**64}),
        (b'{"a":1e-400}', {"a": 0.0}),
        (b'{"\x7f":"\x7f"}', {"\x7f": "\x7f"}),
        (b'"\\/\\b\\u00e9\\uD83D\\uDE00"', "/\b\u00e9\U0001f600"),
    ],
)
def test_what_is_well_formed(document: bytes, value: Any) -> None:
    assert load(document) == value


@pytest.mark.parametrize(
    ("string", "expected"),
    [
        (b"\xff", "\ufffd"),
        (b"a\xc3", "a\ufffd"),
        (b"\xe2\x82z", "\ufffd\ufffdz"),
        (b"\xed\xa0\x80", "\ufffd\ufffd\ufffd"),
        (b"\xc0\x80", "\ufffd\ufffd"),
        (b"\xf4\x90\x80\x80", "\ufffd\ufffd\ufffd\ufffd"),
        (b"\xef\xbb\xbfa", "\ufeffa"),
        (b"\\ud800", "\ufffd"),
        (b"\\uDFFF", "\ufffd"),
        (b"\\ud800\\u0041", "\ufffdA"),
        (b"\\ud800\\ud83d\\ude00", "\ufffd\U0001f600"),
        (b"\\ude00\\ud83d", "\ufffd\ufffd"),
        (b"\\\\ud800", "\\ud800"),
        (b"\\\\\\ud800", "\\\ufffd"),
        (b'\\"\\ud800', '"\ufffd'),
        (b"\xff\\ud800\xff", "\ufffd\ufffd\ufffd"),
    ],
)
def test_what_is_no_text_becomes_replacement_characters(string: bytes, expected: str) -> None:
    """One for each byte or lone surrogate; text that merely looks like an escape stays."""
    assert load(b'"' + string + b'"') == expected
    assert load(b'{"' + string + b'":0}') == {expected: 0}


def test_invalid_bytes_outside_strings_stay_malformed() -> None:
    for document in (b"\xff", b"{}\xff", b'{\xff"a":1}', b"\\ud800"):
        with pytest.raises(WireError):
            load(document)


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}"), ('[{"a":', "}]")])
def test_nesting_is_bounded(opening: str, closing: str) -> None:
    levels = MAX_NESTING // (2 if len(closing) == 2 else 1)
    load((levels * opening + "0" + levels * closing).encode())
    for deeper in (levels + 1, 1000, 5000):
        with pytest.raises(WireError, match="nested too deep"):
            load((deeper * opening + "0" + deeper * closing).encode())
        with pytest.raises(WireError, match="nested too deep"):
            load((deeper * opening).encode())


def test_breadth_and_brackets_in_strings_are_not_nesting() -> None:
    assert load(b"[" + b",".join([b"[]"] * 5000) + b"]") == [[]] * 5000
    brackets = '[{"\\' * 5000
    assert load(json.dumps([brackets, [brackets]]).encode()) == [brackets, [brackets]]


def test_unterminated_strings_cost_one_pass() -> None:
    """A megabyte of quotes that never end; trying each of them anew would take minutes."""
    with pytest.raises(WireError):
        load(b"[" + b"[]," * MAX_NESTING + b'"' + b'\\"' * 500_000)


def test_pairs_keep_every_key() -> None:
    document = b'{"a":1,"a":{"b":null},"c":[{}]}'
    assert load_pairs(document) == (("a", 1), ("a", (("b", None),)), ("c", [()]))


@pytest.mark.parametrize(
    ("value", "encoded"),
    [
        ({}, b"{}"),
        ({"b": 1, "a": [True, None, 1.5]}, b'{"a":[true,null,1.5],"b":1}'),
        ("<&>", b'"\\u003c\\u0026\\u003e"'),
        ("\u2028\u2029", b'"\\u2028\\u2029"'),
        ("caf\u00e9 \U0001f600", b'"caf\xc3\xa9 \xf0\x9f\x98\x80"'),
        ('\x00\x1f\x7f\b\f\n\r\t"\\/', b'"\\u0000\\u001f\x7f\\b\\f\\n\\r\\t\\"\\\\/"'),
        ("\ud800x", b'"\\ufffdx"'),
        ("\ufffd", b'"\xef\xbf\xbd"'),
        ({"<": "\udcff"}, b'{"\\u003c":"\\ufffd"}'),
    ],
)
def test_writing_as_the_reference_writes(value: Any, encoded: bytes) -> None:
    assert dump(value) == encoded


def test_order_of_members() -> None:
    assert dump({"b": 1, "a": 2}, sort_keys=False) == b'{"b":1,"a":2}'
    assert dump({"b": 1, "a": 2}) == b'{"a":2,"b":1}'


def circular() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


@pytest.mark.parametrize(
    "value",
    [float("nan"), float("inf"), b"bytes", {1, 2}, object(), {(1, 2): 3}, circular()],
    ids=lambda value: type(value).__name__,
)
def test_what_json_cannot_express(value: Any) -> None:
    with pytest.raises(WireError, match="not expressible"):
        dump(value)


@given(json_values)
def test_reading_undoes_writing(value: Any) -> None:
    for sort_keys in (True, False):
        encoded = dump(value, sort_keys=sort_keys)
        assert load(encoded) == json.loads(encoded) == value
        assert not set(encoded) & set(b"<>&\n ") or isinstance(value, str | list | dict)


@given(hostile(json_values.map(dump)) | st.text(alphabet='[]{}",:\\u0dD89aA \n1e-.', max_size=60))
def test_any_bytes_give_a_value_or_a_wire_error(data: bytes | str) -> None:
    document = data.encode() if isinstance(data, str) else data
    try:
        value = load(document)
    except WireError:
        return
    # No surrogate, no infinity: whatever was read can be written, and read again.
    assert load(dump(value)) == value
