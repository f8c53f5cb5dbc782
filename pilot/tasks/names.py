"""Names in the task directories: task ids, result files, and the types that results may have."""

from __future__ import annotations

import re
import unicodedata

from pilot.errors import InvalidArgument

ALLOWED_TYPES = frozenset(
    (
        *(".md", ".txt", ".rtf", ".docx", ".pdf", ".pptx", ".csv", ".parquet", ".xlsx", ".xls"),
        *(".pth", ".pt", ".onnx", ".h5", ".pb", ".ckpt", ".safetensors", ".bin"),
        *(".jpg", ".jpeg", ".png", ".svg", ".gif", ".webp"),
    )
)
"""Suffixes of result files."""

MAX_TASK_ID = 128
"""Longest task id, in characters."""

_TASK_ID = re.compile(r"[0-9A-Za-z-]{1,128}\Z")
_MAX_NAME = 255  # bytes of a file name that every usual file system takes
_MAX_SUFFIX = 16


def is_task_id(text: str) -> bool:
    """@return: whether it can name a task, and so a file."""
    return _TASK_ID.match(text) is not None


def file_type(name: str) -> str:
    """@return: suffix of a path in lower case, with its dot; empty if there is none."""
    base = re.split(r"[/\\]", name)[-1]
    return base[base.rindex(".") :].lower() if "." in base else ""


def check_file_type(name: str) -> None:
    """@raise InvalidArgument: results may not be of that type."""
    suffix = file_type(name)
    if suffix not in ALLOWED_TYPES:
        raise InvalidArgument(f'file type "{suffix}" not allowed for results')


def result_name(task_id: str, filename: str) -> str:
    """
    @param task_id: a sound one.
    @param filename: as the worker calls the file; empty for a text.
    @return: C{<task_id>_<filename>}, one plain file name whatever the worker says: of a path the
        last part, control characters percent-encoded, cut to fit but with its suffix.
    """
    base = re.split(r"[/\\]", filename or "result.txt")[-1]
    safe = "".join(map(_harmless, base)) or "result"
    room = _MAX_NAME - len(task_id) - 1
    dot = safe.rfind(".")
    suffix = safe[dot:] if 0 <= len(safe) - dot <= _MAX_SUFFIX and dot >= 0 else ""
    stem = safe.removesuffix(suffix) if suffix else safe
    while len((stem + suffix).encode("utf-8", "replace")) > room:
        stem = stem[:-1]
    return f"{task_id}_{stem}{suffix}"


def _harmless(character: str) -> str:
    if unicodedata.category(character) in ("Cc", "Cs"):
        return "".join(f"%{byte:02X}" for byte in character.encode("utf-8", "surrogatepass"))
    return character
