"""Documents that networks carry for their members' daemons: rules and connection policies.

The registry checks that they make sense and hands them on; it does not act on them.

@see: protocol notes of the registry, I{create_network}.
"""

from __future__ import annotations

import json
import re
from typing import Any

from pilot.errors import WireError
from pilot.registry.fields import Request, quoted, size
from pilot.registry.refusal import Refusal
from pilot.wire.jsontext import dump, load

Document = dict[str, Any]

_MINUTE = 60.0
_UNITS = {
    "ns": 1e-9,
    "us": 1e-6,
    "µs": 1e-6,
    "μs": 1e-6,
    "ms": 1e-3,
    "s": 1.0,
    "m": 60.0,
    "h": 3600.0,
}
_PART = re.compile(r"([0-9]+\.?[0-9]*|\.[0-9]+)([^0-9.]+)")
_PRUNE_BY = ("score", "age", "activity")
_FILL_HOW = ("random",)


def read_rules(request: Request, limit: int) -> Document | None:
    """
    @param limit: bytes.
    @return: the rules of a managed network in field C{rules}, None when there are none.
    @raise Refusal: they make no sense.
    """
    given = _document(request, "rules", "rules", limit)
    if given is None:
        return None
    rules: Document = {
        "links": _count(given, "links"),
        "cycle": _word(given, "cycle"),
        "prune": _count(given, "prune"),
        "prune_by": _word(given, "prune_by"),
        "fill": _count(given, "fill"),
        "fill_how": _word(given, "fill_how"),
    }
    if _word(given, "grace"):
        rules["grace"] = given["grace"]
    _check_rules(rules)
    return rules


def read_policy(request: Request, limit: int) -> Document | None:
    """
    @param limit: bytes.
    @return: the policy document in field C{expr_policy}, None when there is none.
    @raise Refusal: it is none.
    """
    policy = _document(request, "expr_policy", "expr_policy", limit)
    if policy is None:
        return None
    if type(policy.get("version")) not in (int, float) or policy["version"] != 1:
        version = policy.get("version", 0)
        raise Refusal(f"expr_policy: unsupported version {version} (want 1)")
    rules = policy.get("rules")
    if not isinstance(rules, list) or not rules:
        raise Refusal("expr_policy: at least one rule is required")
    return policy


def parse_duration(value: str) -> float:
    """
    Read a Go duration, such as C{1h30m}.

    @return: seconds.
    @raise Refusal: C{time: invalid duration "x"} and the like.
    """
    rest = value[1:] if value[:1] in ("+", "-") else value
    if rest == "0":
        return 0.0
    seconds, position = 0.0, 0
    while position < len(rest):
        part = _PART.match(rest, position)
        if part is None:
            missing = rest[position] in "0123456789."
            what = "missing unit in" if missing and rest[position:] != "." else "invalid"
            raise Refusal(f"time: {what} duration {quoted(value)}")
        if part[2] not in _UNITS:
            raise Refusal(f"time: unknown unit {quoted(part[2])} in duration {quoted(value)}")
        seconds += float(part[1]) * _UNITS[part[2]]
        position = part.end()
    if not rest:
        raise Refusal(f"time: invalid duration {quoted(value)}")
    return -seconds if value.startswith("-") else seconds


def json_error(data: bytes) -> str:
    """@return: what the reference says of JSON that Python cannot read either."""
    text = data.decode("utf-8", "replace")
    position, said = _python_error(text)
    while position < len(text) and text[position] in " \t\r\n":
        position += 1
    if position >= len(text):
        return "unexpected end of JSON input"
    return f"invalid character {_character(text[position])} {said}"


def _python_error(text: str) -> tuple[int, str]:
    try:
        json.loads(text)
    except json.JSONDecodeError as error:
        for python, go in (
            ("Extra data", "after top-level value"),
            ("Expecting property name", "looking for beginning of object key string"),
            ("Expecting ':'", "after object key"),
            ("Expecting ','", "after object key:value pair"),
            ("Invalid control", "in string literal"),
            ("Invalid \\escape", "in string escape code"),
        ):
            if error.msg.startswith(python):
                return error.pos, go
        return error.pos, "looking for beginning of value"
    except RecursionError:
        pass
    return 0, "looking for beginning of value"


def _character(char: str) -> str:
    return {"'": r"'\''", '"': "'\"'"}.get(char, f"'{quoted(char)[1:-1]}'")


def _document(request: Request, field: str, name: str, limit: int) -> Document | None:
    """A document comes as an object, or as the text of one."""
    value = request.get(field)
    if value is None or value == "":
        return None
    if isinstance(value, str):
        if size(value) > limit:
            raise Refusal(f"{name} too long (max {limit} bytes)")
        data = value.encode("utf-8", "surrogatepass")
        try:
            value = load(data)
        except WireError:
            raise Refusal(f"{name}: invalid JSON: {json_error(data)}") from None
        if value is None:
            return None
    if not isinstance(value, dict):
        raise Refusal(f"{name}: invalid JSON: not an object")
    if len(dump(value)) > limit:
        raise Refusal(f"{name} too long (max {limit} bytes)")
    return value


def _check_rules(rules: Document) -> None:
    links = rules["links"]
    if links < 1:
        raise Refusal("rules: links must be at least 1")
    if not rules["cycle"]:
        raise Refusal("rules: cycle is required")
    if _duration(rules, "cycle") < _MINUTE:
        raise Refusal("rules: cycle must be at least 1m")
    for share in ("prune", "fill"):
        if rules[share] < 0:
            raise Refusal(f"rules: {share} must not be negative")
        if rules[share] > links:
            raise Refusal(f"rules: {share} ({rules[share]}) cannot exceed links ({links})")
    for choice, known in (("prune_by", _PRUNE_BY), ("fill_how", _FILL_HOW)):
        if not rules[choice]:
            raise Refusal(f"rules: {choice} is required")
        if rules[choice] not in known:
            raise Refusal(f"rules: {choice} must be one of {', '.join(known)}")
    if "grace" in rules and _duration(rules, "grace") < 0:
        raise Refusal("rules: grace must not be negative")


def _duration(rules: Document, name: str) -> float:
    try:
        return parse_duration(rules[name])
    except Refusal as error:
        raise Refusal(
            f"rules: invalid {name} duration {quoted(rules[name])}: {error.message}"
        ) from None


def _count(rules: Document, name: str) -> int:
    value = rules.get(name, 0)
    if type(value) is not int:
        raise Refusal(f"rules: invalid JSON: {name} is not an integer")
    return value


def _word(rules: Document, name: str) -> str:
    value = rules.get(name, "")
    if not isinstance(value, str):
        raise Refusal(f"rules: invalid JSON: {name} is not a string")
    return value
