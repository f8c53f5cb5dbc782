from __future__ import annotations

import importlib.util
import sys
import zlib
from types import ModuleType
from typing import Any

import pytest

from pilot.wire import checksum, packet
from tests.golden import golden

LENGTHS = [0, 1, 33, 63, 64, 1130, checksum.SHORT - 1, checksum.SHORT, checksum.SHORT + 1, 65535]


def without_isal(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module as a machine without the extra sees it."""
    monkeypatch.setitem(sys.modules, "isal", None)
    monkeypatch.setitem(sys.modules, "isal.isal_zlib", None)
    spec = importlib.util.find_spec("pilot.wire.checksum")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("case", golden("packet")["crc32_examples"], ids=str)
def test_golden_checksums(case: dict[str, Any]) -> None:
    data = case["ascii"].encode("ascii") if "ascii" in case else bytes.fromhex(case["hex"])
    assert checksum.crc32(data) == checksum.crc32_short(data) == case["crc32"]


@pytest.mark.parametrize("length", LENGTHS)
def test_all_implementations_agree(length: int) -> None:
    """Chained as the packet does it, on both sides of the length that decides between them."""
    isal_zlib = pytest.importorskip("isal.isal_zlib")
    header, payload = bytes(range(34)), bytes(i % 251 for i in range(length))
    whole = zlib.crc32(header + payload)
    for crc32 in (zlib.crc32, isal_zlib.crc32, checksum.crc32, checksum.crc32_short):
        assert crc32(payload, crc32(header)) == whole


def test_zlib_serves_where_isal_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert without_isal(monkeypatch).crc32 is zlib.crc32


@pytest.mark.parametrize("length", LENGTHS)
def test_packets_are_the_same_with_either(length: int, monkeypatch: pytest.MonkeyPatch) -> None:
    args = (2, 1, b"source", b"target", 3, 4, 5, 6, 7, bytes(length))
    usual = packet.encode_raw(*args)
    monkeypatch.setattr(packet, "crc32", without_isal(monkeypatch).crc32)
    assert packet.encode_raw(*args) == usual
    assert packet.decode_raw(usual).payload == bytes(length)
