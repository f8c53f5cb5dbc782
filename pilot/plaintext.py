"""Somebody else's text, made harmless to a terminal."""

from __future__ import annotations


def printable(text: str, keep: str = "") -> str:
    """
    Make somebody else's text harmless to a terminal.

    @param keep: control characters that may stay.
    @return: the text, with other control characters, and characters that reorder text, as escapes.
    """
    if text.isprintable():
        return text
    return "".join(
        character
        if character.isprintable() or character in keep
        else character.encode("unicode_escape").decode("ascii")
        for character in text
    )
