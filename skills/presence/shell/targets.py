"""Whom the operator means: the addresses behind the names of coordinators."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, Final

from pilot.address import Address
from pilot.errors import AddressError

REMEMBERED: Final = 256


class Targets:
    """Resolves names once; what has an address is kept in order and needs no look-up."""

    def __init__(self, node: Any) -> None:
        self._node = node
        self._known: OrderedDict[str, Address] = OrderedDict()

    async def find(self, target: str | int) -> Address:
        """
        @param target: hostname, address or node number.
        @return: the address on the backbone.
        @raise PilotError: nobody is called so.
        """
        direct = as_address(target)
        if direct is not None:
            return direct
        name = str(target)
        known = self._known.get(name)
        if known is None:
            found: Address = await self._node.resolve(name)
            known = self._known[name] = Address(0, found.node)
            if len(self._known) > REMEMBERED:
                self._known.popitem(last=False)
        return known

    def forget(self, target: str | int) -> None:
        """Look the name up again next time."""
        self._known.pop(str(target), None)


def as_address(target: str | int) -> Address | None:
    """@return: the address that C{target} is by itself, C{None} if it is a name."""
    if isinstance(target, int):
        return Address(0, target)
    if target.isascii() and target.isdigit() and len(target) <= 10 and int(target) < 2**32:
        return Address(0, int(target))
    try:
        return Address(0, Address.parse(target).node)
    except AddressError:
        return None
