"""CRC-32 of IEEE 802.3, by the quickest implementation at hand.

C{isal} is several times as fast as C{zlib}; both give the same numbers.

@see: protocol notes, I{The packet}.
"""

from __future__ import annotations

try:
    from isal.isal_zlib import crc32
except ImportError:  # the extra "fast" is not installed, or not for this machine
    from zlib import crc32

__all__ = ["crc32"]
