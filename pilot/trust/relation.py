"""The trust relation with one peer, as a state machine.

The machine decides and does nothing else: its inputs are what the user, the peer and the registry
say, its results are the new record and the steps and events that follow from it.  Whoever asked
for the transition saves the record first and takes the steps afterwards.

@see: protocol notes, I{How to behave: strict and still compatible}; drawn in C{docs/trust.md}.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, TypeVar

from automat import TypeMachineBuilder

from pilot.trust.records import Pending, Record, Requested, Revoked, Step, Trusted

_R = TypeVar("_R", Requested, Pending, Trusted)


class News(NamedTuple):
    """
    What an input has to say.

    @ivar at: own Unix time.
    @ivar text: justification of a request, reason of a rejection.
    @ivar public_key: the peer's key in base64, C{""} if not known.
    @ivar relayed: it came through the registry's mailbox, so the answer goes there too.
    @ivar network: the shared network that admits the peer, 0 for none.
    @ivar drained: see L{Requested}.
    """

    at: float
    text: str = ""
    public_key: str = ""
    relayed: bool = False
    network: int = 0
    drained: bool = False


class IRelation(Protocol):
    """Everything that can happen between two nodes."""

    def ask(self, news: News) -> None:
        "The user wants the peer's trust."

    def approve(self, news: News) -> None:
        "The user grants the request."

    def reject(self, news: News) -> None:
        "The user turns the peer down."

    def revoke(self, news: News) -> None:
        "The user takes trust, a request, or the request of the peer back."

    def request_received(self, news: News) -> None:
        "The peer asks, and the user has to decide."

    def request_admitted(self, news: News) -> None:
        "The peer asks, and a rule (shared network, auto-approve) decides for the user."

    def accept_received(self, news: News) -> None:
        "The peer says yes."

    def reject_received(self, news: News) -> None:
        "The peer says no."

    def revoke_received(self, news: News) -> None:
        "The peer takes its trust or its request back."

    def membership_ended(self, news: News) -> None:
        "The network that granted the trust is no longer shared."

    def state_name(self) -> str:
        "Where the relation stands."


@dataclass
class Core:
    """
    What the states work on.

    @ivar record: what is known; always of the state's own kind.
    @ivar steps: what is to be done now.
    @ivar events: webhook events, names and data.
    @ivar severed: trust has just ended.
    @ivar settled: whatever was still owed to the peer is moot.
    """

    node_id: int
    record: Record
    steps: list[Step] = field(default_factory=list)
    events: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    severed: bool = False
    settled: bool = False

    def known(self, kind: type[_R]) -> _R:
        """@return: the record, which the state guarantees to be of this kind."""
        assert isinstance(self.record, kind), (self.record, kind)
        return self.record

    def announce(self, name: str, **data: Any) -> None:
        """Raise a webhook event about this peer."""
        self.events.append((name, {"peer_node_id": self.node_id, **data}))

    def answer(self, news: News) -> None:
        """Say yes the way the request came."""
        self.steps.append(Step.RESPOND if news.relayed else Step.ACCEPT)


def _build() -> tuple[Any, dict[str, Any]]:
    builder = TypeMachineBuilder(IRelation, Core)
    none = builder.state("none")
    requested = builder.state("requested")
    pending = builder.state("pending")
    trusted = builder.state("trusted")
    revoked = builder.state("revoked")
    states = (none, requested, pending, trusted, revoked)

    # -- the user --------------------------------------------------------------------------------

    @none.upon(IRelation.ask).to(requested)
    @revoked.upon(IRelation.ask).to(requested)
    def asks(relation: IRelation, core: Core, news: News) -> None:
        core.record = Requested(news.at, news.text, news.drained)
        core.steps.append(Step.ASK)

    @requested.upon(IRelation.ask).loop()
    def asks_again(relation: IRelation, core: Core, news: News) -> None:
        core.record = core.known(Requested)._replace(justification=news.text)
        core.steps.append(Step.ASK)

    @pending.upon(IRelation.ask).to(trusted)
    def meets(relation: IRelation, core: Core, news: News) -> None:
        # Both have asked now, which is all the consent there is to give.  The peer gets the
        # request, not an acceptance: should it have forgotten its own, it can still decide.
        core.record = Trusted(core.known(Pending).public_key, news.at, mutual=True)
        core.steps += [Step.REPORT, Step.ASK, Step.RESPOND]
        core.announce("handshake.auto_approved", reason="mutual")

    trusted.upon(IRelation.ask).loop().returns(None)

    @pending.upon(IRelation.approve).to(trusted)
    def approves(relation: IRelation, core: Core, news: News) -> None:
        core.record = Trusted(core.known(Pending).public_key, news.at, mutual=False)
        core.steps += [Step.REPORT, Step.ACCEPT, Step.RESPOND]
        core.announce("handshake.approved")

    for state in (none, requested, trusted, revoked):
        state.upon(IRelation.approve).loop().returns(None)

    @pending.upon(IRelation.reject).to(none)
    def rejects(relation: IRelation, core: Core, news: News) -> None:
        core.record = None
        core.steps += [Step.REJECT, Step.DECLINE]
        core.announce("handshake.rejected", reason=news.text)

    for state in (none, requested, revoked):

        @state.upon(IRelation.reject).loop()
        def rejects_unasked(relation: IRelation, core: Core, news: News) -> None:
            # The request may have been lost here, not there: the answer helps either way.
            core.steps += [Step.REJECT, Step.DECLINE]
            core.announce("handshake.rejected", reason=news.text)

    trusted.upon(IRelation.reject).loop().returns(None)

    def ends(core: Core, news: News, by_user: bool) -> None:
        core.record = Revoked(news.at, by_user)
        core.steps += [Step.REVOKE, Step.UNPAIR, Step.DECLINE]
        core.severed = True
        core.announce("trust.revoked")

    @trusted.upon(IRelation.revoke).to(revoked)
    def revokes(relation: IRelation, core: Core, news: News) -> None:
        ends(core, news, by_user=True)

    @requested.upon(IRelation.revoke).to(none)
    @pending.upon(IRelation.revoke).to(none)
    def withdraws(relation: IRelation, core: Core, news: News) -> None:
        core.record = None

    none.upon(IRelation.revoke).loop().returns(None)
    revoked.upon(IRelation.revoke).loop().returns(None)

    # -- the peer asks ---------------------------------------------------------------------------

    @none.upon(IRelation.request_received).to(pending)
    @revoked.upon(IRelation.request_received).to(pending)
    def is_asked(relation: IRelation, core: Core, news: News) -> None:
        core.record = Pending(news.public_key, news.text, news.at)
        core.announce("handshake.pending", justification=news.text)

    @pending.upon(IRelation.request_received).loop()
    def is_asked_again(relation: IRelation, core: Core, news: News) -> None:
        key = news.public_key or core.known(Pending).public_key
        core.record = Pending(key, news.text, news.at)
        core.announce("handshake.pending", justification=news.text)

    @requested.upon(IRelation.request_received).to(trusted)
    @requested.upon(IRelation.request_admitted).to(trusted)
    def is_met(relation: IRelation, core: Core, news: News) -> None:
        core.record = Trusted(news.public_key, news.at, mutual=True)
        core.steps.append(Step.REPORT)
        core.answer(news)
        core.announce("handshake.auto_approved", reason="mutual")

    @none.upon(IRelation.request_admitted).to(trusted)
    @pending.upon(IRelation.request_admitted).to(trusted)
    @revoked.upon(IRelation.request_admitted).to(trusted)
    def admits(relation: IRelation, core: Core, news: News) -> None:
        key = news.public_key
        if not key and isinstance(core.record, Pending):
            key = core.record.public_key
        core.record = Trusted(key, news.at, mutual=False, network=news.network)
        core.steps.append(Step.REPORT)
        core.answer(news)
        reason = "same_network" if news.network else "auto_approve"
        core.announce("handshake.auto_approved", reason=reason)

    @trusted.upon(IRelation.request_received).loop()
    @trusted.upon(IRelation.request_admitted).loop()
    def assures(relation: IRelation, core: Core, news: News) -> None:
        # It may have lost its half, or never heard of ours.
        core.answer(news)

    # -- the peer answers ------------------------------------------------------------------------

    @requested.upon(IRelation.accept_received).to(trusted)
    def is_trusted(relation: IRelation, core: Core, news: News) -> None:
        core.record = Trusted(news.public_key, news.at, mutual=True)
        core.steps.append(Step.REPORT)

    @requested.upon(IRelation.reject_received).to(none)
    def is_refused(relation: IRelation, core: Core, news: News) -> None:
        core.record = None

    for state in (none, pending, trusted, revoked):
        state.upon(IRelation.accept_received).loop().returns(None)
        state.upon(IRelation.reject_received).loop().returns(None)

    @trusted.upon(IRelation.revoke_received).to(none)
    def is_dropped(relation: IRelation, core: Core, news: News) -> None:
        core.record = None
        core.steps.append(Step.UNPAIR)
        core.severed = True
        core.announce("trust.revoked_by_peer")

    @requested.upon(IRelation.revoke_received).to(none)
    @pending.upon(IRelation.revoke_received).to(none)
    def is_withdrawn(relation: IRelation, core: Core, news: News) -> None:
        core.record = None

    @revoked.upon(IRelation.revoke_received).loop()
    def agrees(relation: IRelation, core: Core, news: News) -> None:
        core.settled = True

    none.upon(IRelation.revoke_received).loop().returns(None)

    # -- networks --------------------------------------------------------------------------------

    @trusted.upon(IRelation.membership_ended).to(revoked)
    def leaves(relation: IRelation, core: Core, news: News) -> None:
        ends(core, news, by_user=False)

    for state in (none, requested, pending, revoked):
        state.upon(IRelation.membership_ended).loop().returns(None)

    for state in states:
        state.upon(IRelation.state_name).loop().returns(state.name)

    return builder.build(), {state.name: state for state in states}


#: The machine itself, at module level where C{automat-visualize} finds it.
relation_machine, _states = _build()

_STATE_OF = {Requested: "requested", Pending: "pending", Trusted: "trusted", Revoked: "revoked"}


class Outcome(NamedTuple):
    """
    What a transition leads to.

    @ivar record: what is known of the peer from now on.
    @ivar steps: what to do once it is saved.
    @ivar events: webhook events to raise then.
    @ivar severed: trust ended: its streams and its tunnel must go.
    @ivar settled: nothing is owed to the peer any more.
    """

    record: Record
    steps: tuple[Step, ...]
    events: tuple[tuple[str, dict[str, Any]], ...]
    severed: bool
    settled: bool


def state_of(record: Record) -> str:
    """@return: the name of the state that C{record} stands for."""
    return "none" if record is None else _STATE_OF[type(record)]


def restore(core: Core) -> IRelation:
    """@return: the machine in the state that the core's record stands for."""
    relation: IRelation = relation_machine(core, _states[state_of(core.record)])
    return relation


def transition(
    node_id: int, record: Record, happening: Callable[[IRelation, News], None], news: News
) -> Outcome:
    """
    Let something happen between us and C{node_id}.

    @param happening: the input, named by its method: C{IRelation.approve}.
    @return: what follows; nothing was saved or done yet.
    """
    core = Core(node_id, record)
    # The protocol's own method has no body; the machine's method of that name has.
    getattr(restore(core), happening.__name__)(news)
    return Outcome(core.record, tuple(core.steps), tuple(core.events), core.severed, core.settled)
