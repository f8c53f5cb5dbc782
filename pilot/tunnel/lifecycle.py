"""The life of the tunnel to one peer, as a state machine.

It takes a step when a key is wanted, offered, confirmed or missed: never for a packet.

    - unknown: the peer is in the table, nobody has needed it yet.
    - keying: packets wait for a key; key frames go out.
    - established: there is a session to send in.
    - rekeying: a new session is on trial, the old one goes on until the new one is confirmed.
    - lost: the peer has fallen silent; key frames go out, the old session is still tried.

@see: protocol notes, I{Recommended behaviour that stays compatible}; drawn in
    C{docs/state-machines.md}.
"""

from __future__ import annotations

from typing import Any, Protocol

from automat import TypeMachineBuilder

from pilot.crypto.session import Session


class ILifecycle(Protocol):
    """Everything that can happen to the tunnel to one peer."""

    def wanted(self) -> None:
        "Packets wait for a session."

    def offered(self, session: Session) -> None:
        "The peer has proved a key of its own that is new to us: there is a new session."

    def confirmed(self, session: Session) -> None:
        "The peer has sealed something in a session that was not in use, or after a silence."

    def aged(self) -> None:
        "Our key has served long enough."

    def missed(self) -> None:
        "Answers are overdue."

    def exhausted(self) -> None:
        "All attempts have been made."

    def state_name(self) -> str:
        "Where the tunnel stands."


class Care(Protocol):
    """What the machine has done for its peer, and who does it."""

    def call(self) -> None:
        """Send key frames until somebody answers."""

    def hurry(self) -> None:
        """Somebody wants the peer now: do not wait for the next attempt."""

    def adopt(self, session: Session) -> None:
        """Send in this session from now on, starting with what waits."""

    def try_out(self, session: Session) -> None:
        """Have the peer confirm this session; go on in the old one until then."""

    def renew(self) -> None:
        """Make a new key of our own and try out its session."""

    def promote(self, session: Session) -> None:
        """This session is good: use it, and let the others fade."""

    def withdraw(self) -> None:
        """The sessions on trial were not confirmed: forget them."""

    def search(self) -> None:
        """Look for the peer: where it was, where the registry says it is, through the beacon."""

    def give_up(self) -> None:
        """Nobody answers: drop what waits."""


def _build() -> Any:
    # The builder takes the type for what it tells and never calls it.
    builder = TypeMachineBuilder(ILifecycle, Care)  # type: ignore[type-abstract]
    unknown = builder.state("unknown")
    keying = builder.state("keying")
    established = builder.state("established")
    rekeying = builder.state("rekeying")
    lost = builder.state("lost")

    @unknown.upon(ILifecycle.wanted).to(keying)
    def calls(tunnel: ILifecycle, care: Care) -> None:
        care.call()

    @keying.upon(ILifecycle.wanted).loop()
    def hurries(tunnel: ILifecycle, care: Care) -> None:
        care.hurry()

    @lost.upon(ILifecycle.wanted).loop()
    def calls_again(tunnel: ILifecycle, care: Care) -> None:
        care.search()
        care.hurry()

    @unknown.upon(ILifecycle.offered).to(established)
    @keying.upon(ILifecycle.offered).to(established)
    @lost.upon(ILifecycle.offered).to(established)
    def is_answered(tunnel: ILifecycle, care: Care, session: Session) -> None:
        care.adopt(session)

    @established.upon(ILifecycle.offered).to(rekeying)
    @rekeying.upon(ILifecycle.offered).loop()
    def is_offered_another(tunnel: ILifecycle, care: Care, session: Session) -> None:
        care.try_out(session)

    @established.upon(ILifecycle.confirmed).loop()
    @rekeying.upon(ILifecycle.confirmed).to(established)
    @lost.upon(ILifecycle.confirmed).to(established)
    def is_confirmed(tunnel: ILifecycle, care: Care, session: Session) -> None:
        care.promote(session)

    @established.upon(ILifecycle.aged).to(rekeying)
    def renews(tunnel: ILifecycle, care: Care) -> None:
        care.renew()

    @established.upon(ILifecycle.missed).to(lost)
    @lost.upon(ILifecycle.missed).loop()
    def misses(tunnel: ILifecycle, care: Care) -> None:
        care.search()

    @rekeying.upon(ILifecycle.exhausted).to(established)
    def is_not_followed(tunnel: ILifecycle, care: Care) -> None:
        care.withdraw()

    @keying.upon(ILifecycle.exhausted).to(lost)
    @lost.upon(ILifecycle.exhausted).loop()
    def gives_up(tunnel: ILifecycle, care: Care) -> None:
        care.give_up()

    for state in (established, rekeying):
        state.upon(ILifecycle.wanted).loop().returns(None)
    for state in (unknown, keying, rekeying, lost):
        state.upon(ILifecycle.aged).loop().returns(None)
    for state in (unknown, keying, rekeying):
        state.upon(ILifecycle.missed).loop().returns(None)
    for state in (unknown, established):
        state.upon(ILifecycle.exhausted).loop().returns(None)
    for state in (unknown, keying, established, rekeying, lost):
        state.upon(ILifecycle.state_name).loop().returns(state.name)
    return builder.build()


#: The machine itself, at module level where C{automat-visualize} finds it.
lifecycle_machine = _build()
