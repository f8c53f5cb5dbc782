"""JSON as the reference reads and writes it.

Reading is strict where Python is lenient (C{NaN}, byte order mark, numbers beyond a double,
bottomless nesting) and lenient where Python would leave traps behind (invalid UTF-8 and lone
surrogates become U+FFFD).  Writing escapes what the reference escapes, so equal values give equal
bytes.

@see: protocol notes, I{JSON framing} and I{JSON replies}.
"""

from __future__ import annotations

import json
import re

from pilot.errors import WireError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

MAX_NESTING = 128
"""Levels of arrays and objects.  The reference allows 10,000; nothing it sends needs ten."""

_MAX_DIGITS = 308  # an integer of more digits may not fit a double, which the reference reads

_REPLACEMENT = "\ufffd"
# Expressions for rare cases are compiled, and kept by re, at their first use: importing this module
# is part of every start of pilotctl.
_SURROGATE = "[\ud800-\udfff]"
# One escape sequence at a time, so that `\\ud800` is a backslash and five letters: a surrogate
# pair, a lone surrogate (the group), or any other escape.
_ESCAPE = (
    r"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
    r"|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)"
)
# Strings are skipped whole.  The closing quote is optional, so that an unterminated string is
# passed over once, not tried again from each quote inside it.
_STRUCTURE = r'(?s:"(?:[^"\\]|\\.)*"?|[\[{]|[\]}])'
_UNSAFE = [(character, f"\\u{ord(character):04x}") for character in "<>&\u2028\u2029"]


def _refuse_constant(name: str) -> NoReturn:
    raise WireError(f"malformed JSON: {name} is not a number")


def _integer(text: str) -> int:
    if len(text) > _MAX_DIGITS:
        raise WireError(f"malformed JSON: a number of {len(text)} digits")
    return int(text)


def _float(text: str) -> float:
    value = float(text)
    if value - value != 0.0:  # infinite
        raise WireError(f"malformed JSON: {text[:40]} is out of range")
    return value


_decoder = json.JSONDecoder(parse_constant=_refuse_constant, parse_int=_integer, parse_float=_float)
_pairs_decoder = json.JSONDecoder(
    parse_constant=_refuse_constant,
    parse_int=_integer,
    parse_float=_float,
    object_pairs_hook=tuple,
)
_encoder = json.JSONEncoder(
    ensure_ascii=False, allow_nan=False, separators=(",", ":"), check_circular=False
)
_sorting_encoder = json.JSONEncoder(
    ensure_ascii=False,
    allow_nan=False,
    separators=(",", ":"),
    sort_keys=True,
    check_circular=False,
)


def load(data: bytes) -> Any:
    """
    Read one JSON document, white space around it allowed.

    @return: C{None}, C{bool}, C{int}, C{float}, C{str}, C{list} or C{dict}; of a repeated key the
        last value.  No string holds a surrogate; every number fits a double.
    @raise WireError: anything that is not one JSON document nested at most L{MAX_NESTING} deep.
    """
    return _load(data, _decoder)


def load_pairs(data: bytes) -> Any:
    """L{load} with every object as a tuple of (key, value) pairs, repeated keys included."""
    return _load(data, _pairs_decoder)


def dump(value: Any, *, sort_keys: bool = True) -> bytes:
    """
    Write compact JSON as UTF-8, with C{<}, C{>}, C{&}, U+2028 and U+2029 as escapes.

    @param value: what L{load} returns; tuples count as lists.
    @param sort_keys: whether members come sorted by name, or in the order of the dicts.
    @raise WireError: a value that JSON cannot express, NaN and infinities included.
    """
    encoder = _sorting_encoder if sort_keys else _encoder
    try:
        text = encoder.encode(value)
    except (ValueError, TypeError, RecursionError) as error:
        raise WireError(f"not expressible in JSON: {error}") from None
    # Outside strings none of these occurs, so the finished text may be searched as a whole.
    for character, escape in _UNSAFE:
        if character in text:
            text = text.replace(character, escape)
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError:
        return re.sub(_SURROGATE, r"\\ufffd", text).encode("utf-8")


def _load(data: bytes, decoder: json.JSONDecoder) -> Any:
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        # One U+FFFD a byte, as the reference counts them (the "replace" handler merges some).
        text = re.sub(_SURROGATE, _REPLACEMENT, data.decode("utf-8", "surrogateescape"))
    if "\\ud" in text or "\\uD" in text:
        text = re.sub(_ESCAPE, _without_lone_surrogate, text)
    if text.count("{") + text.count("[") > MAX_NESTING:
        _check_nesting(text)
    try:
        return decoder.decode(text)
    except (ValueError, RecursionError) as error:
        raise WireError(f"malformed JSON: {error}") from None


def _without_lone_surrogate(match: re.Match[str]) -> str:
    return "\\ufffd" if match.group(1) else match.group()


def _check_nesting(text: str) -> None:
    depth = 0
    for match in re.finditer(_STRUCTURE, text):
        mark = match.group()
        if mark in "[{":
            depth += 1
            if depth > MAX_NESTING:
                raise WireError("malformed JSON: nested too deep")
        elif mark in "]}":
            depth -= 1
