"""Values as people type them and as people read them.

@see: C{docs/reference/pilotctl.md}, I{Values}.
"""

from __future__ import annotations

from pilot.errors import InvalidArgument
from pilot.plaintext import printable as printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_NANOSECONDS = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,  # the micro sign
    "μs": 1_000,  # the Greek letter
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
}
_LONGEST = 1 << 63  # nanoseconds, 292 years


def parse_port(text: str) -> int:
    """@raise InvalidArgument: not a decimal number 0..65535."""
    return _limited(text, 0xFFFF, f'invalid port "{text}"')


def parse_network_id(text: str) -> int:
    """@raise InvalidArgument: not a decimal number 0..65535."""
    return _limited(text, 0xFFFF, f'invalid network_id "{text}"')


def parse_node_id(text: str, problem: str | None = None) -> int:
    """
    @param problem: what to say instead of C{invalid node_id "text"}.
    @raise InvalidArgument: not a decimal number 0..4294967295.
    """
    return _limited(text, 0xFFFFFFFF, problem or f'invalid node_id "{text}"')


def parse_integer(text: str, flag: str) -> int:
    """@raise InvalidArgument: not a decimal number, with or without a sign, of 64 bits."""
    digits = text[1:] if text[:1] in ("+", "-") else text
    if not _is_decimal(digits):
        raise InvalidArgument(f'invalid integer for --{flag}: "{text}" is not a number')
    if len(digits) > 18:
        raise InvalidArgument(f'invalid integer for --{flag}: "{text}" is out of range')
    return int(text)


def parse_duration(text: str, flag: str) -> float:
    """
    Read C{1.5s}, C{1m30s}, C{250ms}; a plain number is seconds.

    @return: seconds, negative ones included.
    @raise InvalidArgument: anything else.
    """
    sign, rest = (-1, text[1:]) if text[:1] == "-" else (1, text[text[:1] == "+" :])
    total, found, plain = 0.0, False, False
    while rest:
        size = 0
        while size < len(rest) and (rest[size] == "." or "0" <= rest[size] <= "9"):
            size += 1
        number, rest = rest[:size], rest[size:]
        if number.count(".") > 1 or not number.strip("."):
            raise _bad_duration(text, flag)
        size = 0
        while size < len(rest) and not (rest[size] == "." or "0" <= rest[size] <= "9"):
            size += 1
        unit, rest = rest[:size], rest[size:]
        if not unit and not found:
            plain = True
            unit = "s"
        if (plain and rest) or unit not in _NANOSECONDS:
            raise _bad_duration(text, flag)
        found = True
        total += float(number) * _NANOSECONDS[unit]
    if not found or total >= _LONGEST:
        raise _bad_duration(text, flag)
    return sign * total / 1e9


def duration_text(seconds: float) -> str:
    """@return: C{1.5s}, C{1m0s}, C{250ms}, C{12.3µs}: no rounding above a nanosecond."""
    nanoseconds = round(abs(seconds) * 1e9)
    sign = "-" if seconds < 0 and nanoseconds else ""
    if nanoseconds == 0:
        return "0s"
    if nanoseconds < 1_000_000_000:
        unit = "ns" if nanoseconds < 1_000 else "µs" if nanoseconds < 1_000_000 else "ms"
        return sign + _decimal(nanoseconds, _NANOSECONDS[unit]) + unit
    minutes, rest = divmod(nanoseconds, _NANOSECONDS["m"])
    text = _decimal(rest, _NANOSECONDS["s"]) + "s"
    if minutes >= 60:
        text = f"{minutes // 60}h{minutes % 60}m{text}"
    elif minutes:
        text = f"{minutes}m{text}"
    return sign + text


def measured_text(seconds: float) -> str:
    """@return: L{duration_text} with three digits after the point, for what was measured."""
    for unit in (1e-6, 1e-3, 1.0):
        if seconds < unit * 1000 or unit == 1.0:
            return duration_text(round(seconds / unit, 3) * unit)
    raise AssertionError


def size_text(size: float) -> str:
    """@return: C{512 B}, C{1.5 KB}, C{2.0 MB}, in steps of 1024."""
    if size < 1024:
        return f"{size:.0f} B"
    for unit in ("KB", "MB"):
        size /= 1024
        if size < 1024:
            return f"{size:.1f} {unit}"
    return f"{size / 1024:.1f} GB"


def uptime_text(seconds: float) -> str:
    """@return: C{HH:MM:SS}, with more hours where it takes them."""
    whole = max(0, int(seconds))
    return f"{whole // 3600:02d}:{whole // 60 % 60:02d}:{whole % 60:02d}"


def local_time_text(unix: Any) -> str:
    """@return: C{YYYY-MM-DD HH:MM:SS} of this place."""
    import time

    if not isinstance(unix, (int, float)):
        return "-"
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(unix))
    except (ValueError, OverflowError, OSError):
        return "-"


def _is_decimal(text: str) -> bool:
    return text.isascii() and text.isdigit()


def _limited(text: str, limit: int, problem: str) -> int:
    if not _is_decimal(text):
        raise InvalidArgument(f"{problem}: not a decimal number")
    digits = text.lstrip("0") or "0"
    if len(digits) > 10 or int(digits) > limit:
        raise InvalidArgument(f"{problem}: value out of range (0 to {limit})")
    return int(digits)


def _bad_duration(text: str, flag: str) -> InvalidArgument:
    return InvalidArgument(
        f'invalid duration for --{flag}: "{text}" (use 30s, 1m30s, 500ms, or plain seconds)'
    )


def _decimal(value: int, unit: int) -> str:
    whole, rest = divmod(value, unit)
    if not rest:
        return str(whole)
    return f"{whole}.{rest:0{len(str(unit)) - 1}d}".rstrip("0")
