"""The times and bounds of a replica, each with a name and a reason."""

from __future__ import annotations

from dataclasses import dataclass

from skills.gossip.core.registers import DEFAULT_LIMITS, Limits


@dataclass(frozen=True)
class GossipConfig:
    """
    Every number of a replica that one might want to turn.  Times are in seconds, sizes in bytes.

    Spreading:

    @ivar push: whether news is pushed as soon as it is known.  Without it only the timer spreads.
    @ivar fanout: members that get a push.  3 leaves about 6 % of a large swarm to the timer.
    @ivar coalesce: news waits this long for more news, so that a burst of writes is one message.
    @ivar pace: bytes of news per second and member.  A large import spreads at this rate and stays
        well below what a member takes (C{peer_bytes}).
    @ivar news_bytes: news that waits for its turn.  What does not fit is left to the timer.

    Comparing (anti-entropy):

    @ivar interval: pause between rounds, +-C{jitter} of it.
    @ivar jitter: share of the interval by which each pause is longer or shorter at random.
    @ivar partners: members compared with in a quiet round.
    @ivar hot_partners: ...and while hot.
    @ivar hot: a replica is hot for so long after news, a mismatch or its start.
    @ivar replacements: partners that did not answer and are replaced at once, in one round.
    @ivar patience: a partner has so long for its next message; a few retransmissions on a bad path.
    @ivar heal: pause between attempts to reach a member believed offline: what ends a partition.
    @ivar frame: largest message.
    @ivar frames: messages with state that one side sends in an exchange; the next one resumes.
    @ivar answering: exchanges that others started and that are not over, at most.
    @ivar full_comparison: pause between comparisons under a fresh key, which no crafted collision
        survives.  Costs one hash per register at both ends.

    Members:

    @ivar full_view: larger swarms than this use a partial view.
    @ivar active_view: members talked to in a partial view; symmetric.
    @ivar passive_view: members known as a reserve in a partial view.
    @ivar shuffle: pause between samples of the view sent to a neighbour.
    @ivar members: members remembered, trusted or not.
    @ivar failures: messages in a row that could not be delivered make a member failed...
    @ivar silences: ...and so do so many in a row without an answer.
    @ivar proof: a member that showed version 2 is taken for one so long; until it shows it again,
        it gets nothing that an older program could not read.
    @ivar introduction: pause between introductions to a member of which no version is known.
    @ivar v1_pause: pause between pushes of the whole state to a member of version 1.
    @ivar forget: failed members and what remains of members that left are remembered so long.
    @ivar ephemeral_grace: ephemeral registers of a failed member live on so long.

    Time away:

    @ivar lagging_after: a replica without contact for so long no longer trusts what it holds.
    @ivar lagging_settle: ...and trusts it again when for so long only replicas in the same state
        were met.

    Abuse:

    @ivar signed: whether every register must carry its author's signature.
    @ivar peer_messages: messages per second taken from a member.
    @ivar peer_bytes: bytes per second taken from a member; two seconds' worth may come at once.
    @ivar mute_errors: malformed messages within C{mute_window} that get a member muted...
    @ivar mute: ...for so long.
    @ivar nack_pause: pause between refusals told to one member.
    @ivar unproven: registers that wait for their signature to be made or checked.
    @ivar limits: what the swarm may hold.
    """

    push: bool = True
    fanout: int = 3
    coalesce: float = 0.05
    pace: float = 128 * 1024.0
    news_bytes: int = 1024 * 1024

    interval: float = 5.0
    jitter: float = 0.2
    partners: int = 1
    hot_partners: int = 3
    hot: float = 30.0
    replacements: int = 2
    patience: float = 4.0
    heal: float = 30.0
    frame: int = 32 * 1024
    frames: int = 8
    answering: int = 32
    full_comparison: float = 600.0

    full_view: int = 1024
    active_view: int = 8
    passive_view: int = 64
    shuffle: float = 30.0
    members: int = 4096
    failures: int = 3
    silences: int = 10
    proof: float = 600.0
    introduction: float = 600.0
    v1_pause: float = 5.0
    forget: float = 86400.0
    ephemeral_grace: float = 60.0

    lagging_after: float = 43200.0
    lagging_settle: float = 60.0

    signed: bool = False
    peer_messages: float = 50.0
    peer_bytes: float = 256 * 1024.0
    mute_errors: int = 10
    mute_window: float = 60.0
    mute: float = 300.0
    nack_pause: float = 5.0
    unproven: int = 1000
    limits: Limits = DEFAULT_LIMITS

    def __post_init__(self) -> None:
        """@raise ValueError: a number that no replica could work with."""
        for name in ("fanout", "partners", "hot_partners", "frames", "active_view", "failures"):
            if not 1 <= getattr(self, name) <= 64:
                raise ValueError(f"{name} is {getattr(self, name)}, not 1 to 64")
        if not 0.05 <= self.interval <= 3600.0:
            raise ValueError(f"interval is {self.interval} s, not 0.05 to 3600")
        if not 0.0 <= self.jitter < 1.0:
            raise ValueError(f"jitter is {self.jitter}, not 0 to 1")
