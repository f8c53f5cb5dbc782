"""A node's side of the registry: its requests, signed where they must be.

@see: protocol notes of the registry, I{TIER 1 requests} and I{TIER 2}.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from pilot.crypto.identity import Identity
from pilot.errors import RegistryError
from pilot.registry.dialing import registry_endpoint
from pilot.registry.extensions import NOTIFY, hostname_text, registration_text, role_text
from pilot.registry.link import RegistryLink
from pilot.wire.registry import SIGNED_FIELDS, signing_text

log = Logger()

Answer = dict[str, Any]


class RegistryClient:
    """
    One node at one registry.

    Every method that asks something returns a Deferred of the registry's answer, a dict.  It fails
    with C{RegistryError}, whose message is the registry's, or with C{RegistryUnavailable} when the
    registry cannot be reached or does not answer within ten seconds.

    @ivar node_id: own id, from the registration; None before.  It may be set.
    @ivar notified: whether the registry said that it pushes events to this node.
    """

    def __init__(
        self,
        reactor: Any,
        address: str,
        *,
        identity: Identity,
        tls_fingerprint: str | None = None,
        rng: random.Random | None = None,
    ) -> None:
        """
        Connect to nothing yet: the first request does.

        @param address: C{host:port}.
        @param tls_fingerprint: use TLS, and only with a server whose certificate has this SHA-256:
            64 lower-case hexadecimal digits.
        @param rng: draws the pauses between attempts to connect.
        @raise InvalidArgument: C{address} or C{tls_fingerprint} makes no sense.
        """
        self.node_id: int | None = None
        self.notified = False
        self._clock = reactor
        self._identity = identity
        endpoint = registry_endpoint(reactor, address, tls_fingerprint)
        self._link = RegistryLink(reactor, endpoint, address, rng or random.Random())
        self._link.on_notify = self._notice
        self._link.on_connected = self._introduce
        self._notify_listeners: list[Callable[[str], None]] = []
        self._connected_listeners: list[Callable[[], None]] = []

    @property
    def connected(self) -> bool:
        """Whether there is a connection right now."""
        return self._link.connected

    def on_notify(self, listener: Callable[[str], None]) -> None:
        """Have C{listener} called with each event that the registry pushes: C{"handshakes"}."""
        self._notify_listeners.append(listener)

    def on_connected(self, listener: Callable[[], None]) -> None:
        """
        Have C{listener} called whenever a connection was made, the first as well as any later one.

        The registry behind it may have lost what it knew.
        """
        self._connected_listeners.append(listener)

    def close(self) -> None:
        """Hang up; requests under way fail, and so does every later one."""
        self._link.close()

    def request(self, request_type: str, **fields: Any) -> Deferred[Answer]:
        """Send any request, unsigned unless C{signature} is among the fields."""
        return self._link.request({"type": request_type, **fields})

    # -- being there -----------------------------------------------------------------------------

    def register(
        self,
        listen_addr: str,
        *,
        owner: str = "",
        lan_addrs: Sequence[str] = (),
        version: str = "",
        hostname: str = "",
    ) -> Deferred[Answer]:
        """
        Make this node known and learn its id.

        @param listen_addr: C{host:port}; the registry uses the port only.
        @param lan_addrs: C{host:port} each, as seen from the local network.
        """
        moment = int(self._clock.seconds())
        key = self._identity.public_key_text
        fields: Answer = {
            "listen_addr": listen_addr,
            "public_key": key,
            "proof": self._identity.sign_text(registration_text(key, listen_addr, moment)),
            "proof_time": moment,
            NOTIFY: True,
        }
        given = {
            "owner": owner,
            "lan_addrs": list(lan_addrs),
            "version": version,
            "hostname": hostname,
        }
        fields.update({name: value for name, value in given.items() if value})
        return self.request("register", **fields).addCallback(self._registered)

    def heartbeat(self) -> Deferred[Answer]:
        """Stay known."""
        return self._signed("heartbeat", **{NOTIFY: True}).addCallback(self._beaten)

    def deregister(self) -> Deferred[Answer]:
        """Say goodbye."""
        return self._signed("deregister")

    # -- others ----------------------------------------------------------------------------------

    def lookup(self, node_id: int) -> Deferred[Answer]:
        """What anybody may know of a node."""
        return self.request("lookup", node_id=node_id)

    def resolve(self, node_id: int) -> Deferred[Answer]:
        """Where a node is, if this one may know."""
        return self._signed("resolve", node_id=node_id, requester_id=self._me())

    def resolve_hostname(self, hostname: str) -> Deferred[Answer]:
        """Who has a name."""
        fields: Answer = {"hostname": hostname}
        if self.node_id is not None:
            fields["requester_id"] = self.node_id
            fields["signature"] = self._identity.sign_text(hostname_text(self.node_id, hostname))
        return self.request("resolve_hostname", **fields)

    def punch(self, node_id: int) -> Deferred[Answer]:
        """Both endpoints, for a hole to be punched between."""
        me = self._me()
        return self._signed("punch", requester_id=me, node_a=me, node_b=node_id)

    # -- own description -------------------------------------------------------------------------

    def set_hostname(self, hostname: str) -> Deferred[Answer]:
        """Take a name; C{""} gives it up."""
        return self._signed("set_hostname", hostname=hostname)

    def set_visibility(self, public: bool) -> Deferred[Answer]:
        """Let everybody know where this node is, or only those it trusts."""
        return self._signed("set_visibility", public=public)

    def set_tags(self, tags: Iterable[str]) -> Deferred[Answer]:
        """Replace all tags."""
        return self._signed("set_tags", tags=list(tags))

    def set_task_exec(self, enabled: bool) -> Deferred[Answer]:
        """Say whether this node takes tasks."""
        return self._signed("set_task_exec", enabled=enabled)

    def get_polo_score(self, node_id: int) -> Deferred[Answer]:
        """A node's score."""
        return self.request("get_polo_score", node_id=node_id)

    def update_polo_score(self, node_id: int, delta: int) -> Deferred[Answer]:
        """Add to a score.  Never sent twice: it would count twice."""
        return self.request("update_polo_score", node_id=node_id, delta=delta)

    def set_polo_score(self, node_id: int, score: int) -> Deferred[Answer]:
        """Replace a score."""
        return self.request("set_polo_score", node_id=node_id, polo_score=score)

    # -- trust -----------------------------------------------------------------------------------

    def report_trust(self, peer: int) -> Deferred[Answer]:
        """Declare that this node trusts a peer."""
        return self._signed("report_trust", peer_id=peer)

    def revoke_trust(self, peer: int) -> Deferred[Answer]:
        """Take trust back; the registry refuses when there is none."""
        return self._signed("revoke_trust", peer_id=peer)

    def check_trust(self, peer: int) -> Deferred[Answer]:
        """Whether the registry sees this node and a peer as a pair."""
        return self.request("check_trust", node_id=self._me(), peer_id=peer)

    def request_handshake(self, to: int, justification: str = "") -> Deferred[Answer]:
        """Leave a request for trust in a node's mailbox."""
        return self._signed(
            "request_handshake",
            from_node_id=self._me(),
            to_node_id=to,
            justification=justification,
        )

    def poll_handshakes(self) -> Deferred[Answer]:
        """Empty the own mailbox."""
        return self._signed("poll_handshakes")

    def respond_handshake(self, peer: int, accept: bool) -> Deferred[Answer]:
        """Answer a request for trust."""
        return self._signed("respond_handshake", peer_id=peer, accept=accept)

    # -- keys ------------------------------------------------------------------------------------

    def rotate_key(self, new: Identity) -> Deferred[Answer]:
        """Replace the own key; from the answer on, requests are signed with the new one."""

        def rotated(answer: Answer) -> Answer:
            self._identity = new
            return answer

        rotation = self._signed("rotate_key", new_public_key=new.public_key_text)
        return rotation.addCallback(rotated)

    def get_key_info(self, node_id: int) -> Deferred[Answer]:
        """How old a node's key is."""
        return self.request("get_key_info", node_id=node_id)

    def set_key_expiry(self, expires_at: str) -> Deferred[Answer]:
        """@param expires_at: RFC 3339, or C{"never"}."""
        return self._signed("set_key_expiry", expires_at=expires_at)

    # -- networks --------------------------------------------------------------------------------

    def list_networks(self) -> Deferred[Answer]:
        """All networks."""
        return self.request("list_networks")

    def list_nodes(self, network: int, *, admin_token: str = "") -> Deferred[Answer]:
        """The members of a network; of the backbone only with the admin token."""
        return self.request("list_nodes", network_id=network, **_token(admin_token))

    def create_network(self, name: str, *, admin_token: str, **fields: Any) -> Deferred[Answer]:
        """@param fields: join_rule, token, enterprise, network_admin_token, rules, expr_policy."""
        return self.request(
            "create_network",
            **{"node_id": self._me(), "name": name, "admin_token": admin_token, **fields},
        )

    def join_network(self, network: int, token: str = "") -> Deferred[Answer]:
        """Enter a network."""
        return self._signed("join_network", network_id=network, token=token, inviter_id=0)

    def leave_network(self, network: int) -> Deferred[Answer]:
        """Leave a network."""
        return self._signed("leave_network", network_id=network)

    def invite_to_network(
        self, network: int, node_id: int, *, admin_token: str = ""
    ) -> Deferred[Answer]:
        """Invite a node."""
        return self._signed(
            "invite_to_network",
            inviter_id=self._me(),
            network_id=network,
            target_node_id=node_id,
            **_token(admin_token),
        )

    def poll_invites(self) -> Deferred[Answer]:
        """The invitations that wait; they stay until answered."""
        return self._signed("poll_invites")

    def respond_invite(self, network: int, accept: bool) -> Deferred[Answer]:
        """Answer an invitation."""
        return self._signed("respond_invite", network_id=network, accept=accept)

    def get_network_policy(self, network: int) -> Deferred[Answer]:
        """What members agreed on."""
        return self.request("get_network_policy", network_id=network)

    def get_expr_policy(self, network: int) -> Deferred[Answer]:
        """A network's policy document."""
        return self.request("get_expr_policy", network_id=network)

    def get_member_role(self, network: int, node_id: int) -> Deferred[Answer]:
        """A member's role."""
        return self.request("get_member_role", network_id=network, target_node_id=node_id)

    def get_member_tags(self, network: int, node_id: int = 0) -> Deferred[Answer]:
        """The tags of one member, or of all."""
        return self.request("get_member_tags", network_id=network, target_node_id=node_id)

    def govern(
        self, request_type: str, network: int, *, admin_token: str = "", **fields: Any
    ) -> Deferred[Answer]:
        """
        A request that needs a role in a network, by the own role or an admin token.

        @param request_type: delete_network, rename_network, kick_member, promote_member,
            demote_member, transfer_ownership, set_member_tags, set_network_policy or
            set_expr_policy.
        @param fields: what it needs besides.
        """
        me = self._me()
        signature = self._identity.sign_text(role_text(request_type, me, network))
        return self.request(
            request_type,
            network_id=network,
            node_id=me,
            signature=signature,
            **_token(admin_token),
            **fields,
        )

    def set_member_tags(
        self, network: int, node_id: int, tags: Iterable[str], *, admin_token: str = ""
    ) -> Deferred[Answer]:
        """Describe a member."""
        return self.govern(
            "set_member_tags",
            network,
            target_node_id=node_id,
            tags=list(tags),
            admin_token=admin_token,
        )

    # -- inside ----------------------------------------------------------------------------------

    def _me(self) -> int:
        return self.node_id or 0

    def _signed(self, request_type: str, **fields: Any) -> Deferred[Answer]:
        """Sign the ids that this type signs; an own C{node_id} need not be given."""
        names = SIGNED_FIELDS[request_type][1]
        if "node_id" in names and "node_id" not in fields:
            fields["node_id"] = self._me()
        signed = signing_text(request_type, *(fields[name] for name in names))
        return self.request(request_type, **fields, signature=self._identity.sign_text(signed))

    def _registered(self, answer: Answer) -> Answer:
        node_id = answer.get("node_id")
        if type(node_id) is not int:
            raise RegistryError("the registry's answer to the registration has no node id")
        self.node_id = node_id
        return self._beaten(answer)

    def _beaten(self, answer: Answer) -> Answer:
        self.notified = answer.get(NOTIFY) is True
        return answer

    def _introduce(self) -> None:
        """On a new connection: show who this is before anything else is asked."""
        self.notified = False
        if self.node_id is not None:
            self.heartbeat().addErrback(self._not_known)
        for listener in list(self._connected_listeners):
            listener()

    def _not_known(self, failure: Any) -> None:
        log.debug("the registry did not take the heartbeat: {error}", error=failure.value)

    def _notice(self, event: str) -> None:
        for listener in list(self._notify_listeners):
            listener(event)


def _token(admin_token: str) -> Answer:
    return {"admin_token": admin_token} if admin_token else {}
