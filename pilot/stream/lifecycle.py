"""The life of a connection as a state machine: opening, the two ends, and what follows them.

It is asked a handful of times in a connection's life, never for a segment.  One machine serves
both dialects: in the modern one each direction ends by itself, in the classic one a single FIN
ends both.

@see: protocol notes, I{States}; drawn in C{docs/architecture.md}.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from automat import TypeMachineBuilder

from pilot.stream.events import CloseCause, Closed, Established, Event, PeerFinished, State


class ILifecycle(Protocol):
    """Everything that can happen to a connection."""

    def dial(self) -> None:
        "We ask for a connection."

    def accept(self) -> None:
        "A request has passed the gate."

    def answered(self) -> None:
        "The peer has accepted our request."

    def finish(self) -> None:
        "Our FIN has left."

    def finish_acknowledged(self) -> None:
        "The peer has our FIN, and with it everything we ever wrote."

    def peer_finished(self) -> None:
        "The peer's FIN has arrived, and everything before it."

    def both_finished(self) -> None:
        "A classic FIN has ended both directions."

    def reading_over(self) -> None:
        "The program does not read any more, and what it wrote has arrived."

    def lapse(self) -> None:
        "A finished connection has answered late segments for long enough."

    def end(self, closed: Closed) -> None:
        "The connection breaks off."


@dataclass
class Life:
    """
    What all states share.

    @ivar state: name for diagnostics.
    @ivar events: news for the shell.
    @ivar read_end_told: whether C{PeerFinished} was said; it is said once.
    """

    state: str = State.CLOSED
    events: list[Event] = field(default_factory=list)
    read_end_told: bool = False

    def tell_read_end(self) -> None:
        """Say once that nothing more will come."""
        if not self.read_end_told:
            self.read_end_told = True
            self.events.append(PeerFinished())


_CLEAN = Closed(CloseCause.CLEAN, "closed")


def _build() -> Callable[[Life], ILifecycle]:
    builder = TypeMachineBuilder(ILifecycle, Life)
    embryo = builder.state("embryo")
    requested = builder.state("requested")
    established = builder.state("established")
    finishing = builder.state("finishing")  # our FIN is under way
    half_closed = builder.state("half_closed")  # ... and acknowledged; the peer still sends
    peer_done = builder.state("peer_done")  # the peer's FIN came first
    last_word = builder.state("last_word")  # ... and now ours is under way
    crossed = builder.state("crossed")  # both FINs under way at once
    lingering = builder.state("lingering")  # done, answers late segments
    over = builder.state("over")

    @embryo.upon(ILifecycle.dial).to(requested)
    def ask(lifecycle: ILifecycle, life: Life) -> None:
        life.state = State.SYN_SENT

    @embryo.upon(ILifecycle.accept).to(established)
    @requested.upon(ILifecycle.answered).to(established)
    def open_(lifecycle: ILifecycle, life: Life) -> None:
        life.state = State.ESTABLISHED
        life.events.append(Established())

    @established.upon(ILifecycle.finish).to(finishing)
    def our_end(lifecycle: ILifecycle, life: Life) -> None:
        life.state = State.FIN_WAIT

    @peer_done.upon(ILifecycle.finish).to(last_word)
    def our_end_last(lifecycle: ILifecycle, life: Life) -> None:
        life.state = State.CLOSE_WAIT

    finishing.upon(ILifecycle.finish_acknowledged).to(half_closed).returns(None)

    @established.upon(ILifecycle.peer_finished).to(peer_done)
    def their_end(lifecycle: ILifecycle, life: Life) -> None:
        life.state = State.CLOSE_WAIT
        life.tell_read_end()

    @finishing.upon(ILifecycle.peer_finished).to(crossed)
    def ends_cross(lifecycle: ILifecycle, life: Life) -> None:
        life.tell_read_end()

    @half_closed.upon(ILifecycle.peer_finished).to(lingering)
    @last_word.upon(ILifecycle.finish_acknowledged).to(lingering)
    @crossed.upon(ILifecycle.finish_acknowledged).to(lingering)
    def linger(lifecycle: ILifecycle, life: Life) -> None:
        life.state = State.TIME_WAIT
        life.tell_read_end()

    for state in (established, finishing, half_closed, peer_done, last_word, crossed):
        state.upon(ILifecycle.both_finished).to(lingering)(linger)

    @lingering.upon(ILifecycle.lapse).to(over)
    @half_closed.upon(ILifecycle.lapse).to(over)
    def forget(lifecycle: ILifecycle, life: Life) -> None:
        life.state = State.CLOSED
        life.events.append(_CLEAN)

    for state in (established, finishing, half_closed, peer_done, last_word, crossed):

        @state.upon(ILifecycle.reading_over).loop()
        def not_read(lifecycle: ILifecycle, life: Life) -> None:
            life.tell_read_end()

    for state in (
        embryo,
        requested,
        established,
        finishing,
        half_closed,
        peer_done,
        last_word,
        crossed,
        lingering,
    ):

        @state.upon(ILifecycle.end).to(over)
        def break_off(lifecycle: ILifecycle, life: Life, closed: Closed) -> None:
            life.state = State.CLOSED
            life.events.append(closed)

    over.upon(ILifecycle.end).loop().returns(None)
    return builder.build()


lifecycle_machine = _build()
