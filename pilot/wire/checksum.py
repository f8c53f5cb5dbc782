"""CRC-32 of IEEE 802.3, by the quickest implementation at hand.

L{crc32} is C{isal}'s where it is installed and C{zlib}'s elsewhere; both give the same numbers.
L{crc32_short} serves inputs of 64 bytes up to L{SHORT}: C{isal} would be quicker by itself, but on
processors with AVX-512 it leaves the vector registers in a state in which each copy of a few bytes
that follows takes 100 ns longer, until the next piece of vector code cleans up.  Below 64 bytes it
does not touch them, and on long inputs it wins all the same (1 instead of 12 microseconds at 65,000
bytes).

@see: protocol notes, I{The packet}.
"""

from __future__ import annotations

from zlib import crc32 as crc32_short

try:
    from isal.isal_zlib import crc32
except ImportError:  # the extra "fast" is not installed, or not for this machine
    crc32 = crc32_short

__all__ = ["SHORT", "crc32", "crc32_short"]

SHORT = 3072
"""Bytes below which L{crc32_short} makes the path as a whole quicker; measured, 2000 to 4000."""
