from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilot.address import BROADCAST_NODE, EPHEMERAL_PORTS, Address, SocketAddress
from pilot.errors import AddressError, WireError
from tests.golden import golden
from tests.strategies import addresses, socket_addresses

VECTORS = golden("address")


@pytest.mark.parametrize("case", VECTORS["valid"], ids=lambda case: case["text"])
def test_golden_addresses_both_ways(case: dict[str, Any]) -> None:
    address = Address.parse(case["text"])
    assert address == Address(case["network"], case["node"])
    assert address.pack().hex() == case["binary_hex"]
    assert Address.unpack(bytes.fromhex(case["binary_hex"])) == address
    assert str(address) == case["canonical"]
    assert (address == Address(0, 0)) == case["is_zero"]
    assert address.is_broadcast == case["is_broadcast"]


@pytest.mark.parametrize("case", VECTORS["special"], ids=lambda case: case["name"])
def test_special_addresses(case: dict[str, Any]) -> None:
    assert Address.parse(case["text"]).pack().hex() == case["binary_hex"]


# What the message says, by the reason that the vectors give.
SAYS = {
    "no_colon": "expected N:XXXX.YYYY.YYYY",
    "network_not_decimal": "invalid network ID",
    "network_out_of_range": "invalid network ID",
    "group_count": "expected 3 dot-separated hex groups",
    "group_length": "expected 4 digits",
    "group_not_hex": "invalid hex group",
    "network_mismatch": "network mismatch",
    "no_port": "no port",
    "port_not_decimal": "invalid port",
    "port_out_of_range": "invalid port",
}


@pytest.mark.parametrize("case", VECTORS["invalid"], ids=lambda case: ascii(case["text"]))
def test_golden_refusals(case: dict[str, Any]) -> None:
    """The first rule that is broken decides what is said."""
    with pytest.raises(AddressError) as caught:
        Address.parse(case["text"])
    assert SAYS[case["reason"]] in caught.value.message


@pytest.mark.parametrize("case", VECTORS["socket_valid"], ids=lambda case: case["text"])
def test_golden_socket_addresses_both_ways(case: dict[str, Any]) -> None:
    value = SocketAddress.parse(case["text"])
    assert value == SocketAddress(Address(case["network"], case["node"]), case["port"])
    assert str(value) == case["canonical"]


@pytest.mark.parametrize("case", VECTORS["socket_invalid"], ids=lambda case: ascii(case["text"]))
def test_golden_socket_refusals(case: dict[str, Any]) -> None:
    with pytest.raises(AddressError) as caught:
        SocketAddress.parse(case["text"])
    assert SAYS[case["reason"]] in caught.value.message


@given(addresses)
def test_both_forms_give_the_address_back(address: Address) -> None:
    assert Address.parse(str(address)) == address
    assert Address.parse(str(address).lower()) == address
    assert Address.unpack(address.pack()) == Address.unpack(memoryview(address.pack())) == address


@given(socket_addresses)
def test_socket_addresses_give_themselves_back(value: SocketAddress) -> None:
    assert SocketAddress.parse(str(value)) == value


@given(st.text() | st.text(alphabet="0123456789aAfF:.xX+-_ \n\u0661\ud800", max_size=30))
def test_any_text_gives_an_address_or_an_address_error(text: str) -> None:
    for kind in (Address, SocketAddress):
        try:
            value = kind.parse(text)
        except AddressError as error:
            error.message.encode("utf-8")  # fit to be shown, whatever the text was
        else:
            assert str(value).lower().lstrip("0") == text.lower().lstrip("0") or "0" in text


@given(st.binary(max_size=12))
def test_six_bytes_are_an_address_and_nothing_else_is(data: bytes) -> None:
    if len(data) == 6:
        assert Address.unpack(data).pack() == data
    else:
        with pytest.raises(WireError):
            Address.unpack(data)


def test_constants() -> None:
    assert BROADCAST_NODE == 0xFFFFFFFF
    assert (EPHEMERAL_PORTS.start, EPHEMERAL_PORTS.stop) == (49152, 65536)
