from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilot.errors import WireError
from pilot.wire.sack import decode_sack, encode_sack
from tests.golden import golden
from tests.strategies import hostile, sack_blocks

VECTORS = golden("sack")

Blocks = tuple[tuple[int, int], ...]


@pytest.mark.parametrize("case", VECTORS["encode"], ids=lambda case: str(case["blocks"]))
def test_golden_encoding(case: dict[str, Any]) -> None:
    """Nothing for no block, and of more than four the first four."""
    payload = encode_sack([tuple(block) for block in case["blocks"]])
    assert payload.hex() == case["payload_hex"]
    assert len(payload) == case["length"]


@pytest.mark.parametrize("case", VECTORS["decode"], ids=lambda case: case["payload_hex"][:40])
def test_golden_decoding(case: dict[str, Any]) -> None:
    blocks = decode_sack(bytes.fromhex(case["payload_hex"]))
    assert blocks == (tuple(map(tuple, case["blocks"])) if case["is_sack"] else None)


def test_golden_receiver_payloads() -> None:
    for scenario in VECTORS["receiver_block_generation"]:
        for step in scenario.get("steps", []):
            blocks = [tuple(block) for block in step["blocks"]]
            assert encode_sack(blocks).hex() == step["sack_payload_hex"]


@pytest.mark.parametrize("edge", [-1, 2**32])
def test_a_number_outside_32_bits_is_refused(edge: int) -> None:
    with pytest.raises(WireError):
        encode_sack([(edge, 0)])


@given(sack_blocks)
def test_decoding_undoes_encoding(blocks: Blocks) -> None:
    assert decode_sack(encode_sack(blocks)) == blocks


@given(hostile(sack_blocks.map(encode_sack)) | st.binary(max_size=60).map(b"SACK".__add__))
def test_any_payload_is_a_list_or_data(payload: bytes) -> None:
    blocks = decode_sack(payload)
    if blocks is not None:
        assert 1 <= len(blocks) <= 4
        assert payload.startswith(encode_sack(blocks))
