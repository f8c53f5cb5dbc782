"""What the skill answers on its socket: the operations behind C{pilotctl gossip}.

Every call takes one JSON object, with C{"swarm"} in it where one is meant.

@see: the page I{Gossip}, I{The skill's socket}.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pilot.errors import InvalidArgument, NotFound, PilotError
from skills.gossip.core.compat import paged
from skills.gossip.core.errors import BadMessage
from skills.gossip.core.register import check_key
from skills.gossip.shell.hands import LEFT
from skills.gossip.shell.merged import MergedPushes
from skills.gossip.shell.naming import check_swarm
from skills.gossip.shell.post import PUSH, named_swarm
from skills.gossip.swarm import Swarm

if TYPE_CHECKING:
    from pilot.interfaces import IPilotNode
    from skills.gossip.service import GossipService

#: Bytes of a document in one answer, and keys in one answer; more come in several.
PAGE, KEYS = 512 * 1024, 2000

#: Longest time to live, seconds.
LONGEST_TTL = 10 * 365 * 86400.0

Arguments = dict[str, Any]

_JOINING = frozenset({"fanout", "interval", "signed"})

#: What a feed is: its arguments and a way to send in, what ends it out.
Feed = Callable[[Arguments, Callable[[Arguments], None]], Callable[[], None]]


class Calls:
    """The operations of one service."""

    def __init__(self, service: GossipService, node: IPilotNode) -> None:
        self._service = service
        self._node = node

    def calls(self) -> dict[str, Callable[[Arguments], Any]]:
        """@return: as C{ISkillCalls} has it."""
        return {
            "join": self.join,
            "leave": self.leave,
            "swarms": self.swarms,
            "members": self.members,
            "set": self.set,
            "get": self.get,
            "del": self.delete,
            "keys": self.keys,
            "import": self.import_,
            "push": self.push,
            "merge": self.merge,
            "sync": self.sync,
            "status": self.status,
            "doctor": self.doctor,
        }

    def feeds(self) -> dict[str, Feed]:
        """@return: as C{ISkillCalls} has it."""
        return {"watch": self.watch}

    # -- swarms --------------------------------------------------------------------------------

    async def join(self, arguments: Arguments) -> dict[str, Any]:
        """C{{"swarm", "fanout"?, "interval"? (seconds), "signed"?}}."""
        given = {name: arguments[name] for name in _JOINING & arguments.keys()}
        swarm = await self._service.join(check_swarm(arguments.get("swarm")), **given)
        facts = swarm.stats()
        return {
            "swarm": swarm.name,
            "tag": self._service.tag(swarm.name),
            "members": facts["members"],
            "keys": facts["keys"],
            "synced": facts["synced"],
        }

    async def leave(self, arguments: Arguments) -> dict[str, Any]:
        """C{{"swarm"}}."""
        swarm = self._swarm(arguments)
        await self._service.leave(swarm.name)
        return {"swarm": swarm.name, "left": True}

    def swarms(self, arguments: Arguments) -> dict[str, Any]:
        """C{{}}."""
        names = ("members", "keys", "bytes", "root", "synced")
        found = []
        for name, swarm in sorted(self._service.swarms.items()):
            facts = swarm.stats()
            found.append({"swarm": name, **{key: facts[key] for key in names}})
        return {"swarms": found}

    def members(self, arguments: Arguments) -> dict[str, Any]:
        """C{{"swarm"}}."""
        swarm = self._swarm(arguments)
        return {"swarm": swarm.name, "members": swarm.members()}

    def status(self, arguments: Arguments) -> dict[str, Any]:
        """C{{"swarm"}}."""
        return self._swarm(arguments).stats()

    # -- values --------------------------------------------------------------------------------

    async def set(self, arguments: Arguments) -> dict[str, Any]:
        """C{{"swarm", "key", "value", "replace"?, "ttl"? (seconds)}}."""
        swarm, key = self._swarm(arguments), _key(arguments)
        value = arguments.get("value")
        hlc = await swarm.set(
            key, value, replace=arguments.get("replace") is True, ttl=_ttl(arguments)
        )
        stored = swarm.storage.error is None
        return {"swarm": swarm.name, "key": key, "value": value, "hlc": hlc, "stored": stored}

    def get(self, arguments: Arguments) -> dict[str, Any]:
        """
        C{{"swarm", "key"?, "page"?}}.

        An object larger than L{PAGE} comes in C{"pages"} parts, which are to be merged; C{"root"}
        tells whether it has changed between two of them.
        """
        swarm = self._swarm(arguments)
        key = arguments.get("key") or ""
        value = swarm.get(_key(arguments)) if key else swarm.document()
        pages = paged(value, PAGE) if isinstance(value, dict) else [value]
        page = arguments.get("page", 0)
        if type(page) is not int or page < 0:
            raise InvalidArgument("page: expected a whole number")
        part = pages[page] if page < len(pages) else {}
        return {
            "swarm": swarm.name,
            "key": key,
            "value": part,
            "pages": len(pages),
            "root": swarm.root,
        }

    async def delete(self, arguments: Arguments) -> dict[str, Any]:
        """C{{"swarm", "key"}}."""
        swarm, key = self._swarm(arguments), _key(arguments)
        if not swarm.items(key):
            swarm.get(key)
        number = await swarm.delete(key)
        return {"swarm": swarm.name, "key": key, "deleted": number}

    def keys(self, arguments: Arguments) -> dict[str, Any]:
        """C{{"swarm", "prefix"?, "after"?}}: those after a key, some at a time."""
        swarm = self._swarm(arguments)
        prefix = str(arguments.get("prefix") or "").rstrip("/")
        after = str(arguments.get("after") or "")
        found = [each for each in swarm.items(prefix) if each.key > after]
        rows = [
            {"key": each.key, "author": each.author, "hlc": each.hlc, "size": each.size}
            for each in found[:KEYS]
        ]
        return {"swarm": swarm.name, "keys": rows, "more": len(found) > KEYS}

    async def import_(self, arguments: Arguments) -> dict[str, Any]:
        """C{{"swarm", "state": {...}}}."""
        swarm = self._swarm(arguments)
        number = await swarm.merge(_object(arguments, "state"))
        return {"swarm": swarm.name, "keys": number}

    # -- messages ------------------------------------------------------------------------------

    async def push(self, arguments: Arguments) -> dict[str, Any]:
        """C{{"swarm", "data"?: {...}}}."""
        swarm = self._swarm(arguments)
        data = _object(arguments, "data") if arguments.get("data") is not None else None
        peers = await swarm.push(data)
        if not peers:
            raise NotFound(
                f"there is nobody to push to in the swarm {swarm.name}",
                hint=f"who is known: pilotctl gossip members {swarm.name}",
            )
        return {"swarm": swarm.name, "peers": peers}

    def merge(self, arguments: Arguments) -> dict[str, Any]:
        """
        C{{"swarm", "messages": [{"id", "from": node, "payload": {...}}], "present": [id...]}}: fold
        those messages of the inbox that were not folded before.

        C{"present"}: all that are in the inbox; what is known of others is forgotten.
        """
        swarm = self._swarm(arguments)
        merged = MergedPushes(swarm.storage.path)
        number = keys = refused = 0
        for message in arguments.get("messages") or ():
            token, peer, payload = _message(message)
            if token in merged or named_swarm(payload) not in (None, swarm.name):
                continue
            merged.add(token)
            try:
                keys += swarm.fold(peer, payload)
                number += 1
            except PilotError:
                refused += 1
        if number or refused:
            merged.save(arguments.get("present"))
        return {"swarm": swarm.name, "messages": number, "keys": keys, "refused": refused}

    async def sync(self, arguments: Arguments) -> dict[str, Any]:
        """C{{"swarm", "peer"?: address, node id or hostname}}."""
        swarm = self._swarm(arguments)
        peer = arguments.get("peer")
        node = None
        if peer is not None:
            if not isinstance(peer, str | int) or isinstance(peer, bool):
                raise InvalidArgument("peer: expected an address, a node id or a hostname")
            node = (await self._node.resolve(peer)).node
        if not any(row["trusted"] for row in swarm.members()):
            await self._service.look_anew()  # just started, perhaps
        return await swarm.sync(node)

    async def doctor(self, arguments: Arguments) -> dict[str, Any]:
        """C{{"swarm"}}."""
        swarm = self._swarm(arguments)
        return {"swarm": swarm.name, **await swarm.doctor(), "members": swarm.members()}

    # -- following -----------------------------------------------------------------------------

    def watch(
        self, arguments: Arguments, send: Callable[[dict[str, Any]], None]
    ) -> Callable[[], None]:
        """C{{"swarm", "prefix"?}}: one event a change, and C{{"left": true}} at the end."""
        swarm = self._swarm(arguments)
        prefix = str(arguments.get("prefix") or "").rstrip("/")

        def tell(name: str, data: dict[str, Any]) -> None:
            if name == LEFT:
                send({"left": True})
            elif name == "gossip.changed":
                for change in data["changes"]:
                    if not prefix or f"{change['key']}/".startswith(f"{prefix}/"):
                        send(change)

        return swarm.watch(tell)

    def _swarm(self, arguments: Arguments) -> Swarm:
        return self._service.swarm(arguments.get("swarm"))


def _key(arguments: Arguments) -> str:
    key = arguments.get("key")
    if not isinstance(key, str):
        raise BadMessage("key: expected a text")
    return check_key(key)


def _ttl(arguments: Arguments) -> float | None:
    ttl = arguments.get("ttl")
    if ttl is None:
        return None
    if isinstance(ttl, bool) or not isinstance(ttl, int | float) or not 0 < ttl <= LONGEST_TTL:
        raise InvalidArgument("ttl: expected a duration of up to ten years")
    return float(ttl)


def _object(arguments: Arguments, name: str) -> dict[str, Any]:
    value = arguments.get(name)
    if not isinstance(value, dict):
        raise InvalidArgument(f"{name}: expected a JSON object")
    return value


def _message(message: Any) -> tuple[str, int, dict[str, Any]]:
    facts = message if isinstance(message, dict) else {}
    token, peer, payload = facts.get("id"), facts.get("from"), facts.get("payload")
    if not isinstance(token, str) or not isinstance(peer, int) or not isinstance(payload, dict):
        raise InvalidArgument('messages: expected objects with "id", "from" and "payload"')
    if payload.get("type") != PUSH:
        raise InvalidArgument(f"messages: {token} is no {PUSH}")
    return token, peer, payload
