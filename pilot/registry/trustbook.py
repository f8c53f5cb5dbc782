"""Who consented to trust whom.

Consent is kept per direction and a pair is trusted when both sides consented: by asking for trust
(C{request_handshake}), by declaring it (C{report_trust}) or by accepting (C{respond_handshake}).

One case needs more.  A reference daemon that can reach a public peer asks it directly; the registry
only sees it resolve that peer, and the daemon declares nothing before the peer's direct answer has
arrived, which in turn its gate lets in only once the registry calls the two a pair.  So a granted
resolve is remembered as a I{visit} for a while, and when the visited peer accepts or declares
trust, the visitor counts as having asked.  A node that has revoked trust in a peer, or rejected it,
is not taken at that: it must consent in so many words.  Hence nobody becomes the trusted peer of a
node that neither asked it nor called on it, and nobody undoes a revocation but the one who made it.

@see: protocol notes of the registry, I{report_trust} and I{Weaknesses of the reference}.
"""

from __future__ import annotations

from collections.abc import Iterable

from pilot.registry.limits import DEFAULT_LIMITS, Limits
from pilot.registry.records import Journal, Table
from pilot.registry.refusal import Refusal

_GIVEN = b"given"
_REVOKED = b"revoked"


class TrustBook:
    """
    Consents, revocations and visits.

    @ivar pairs: how many pairs are trusted; a node that trusts itself is one.
    """

    __slots__ = ("_given", "_journal", "_limits", "_revoked", "_visits", "pairs")

    def __init__(self, journal: Journal, limits: Limits = DEFAULT_LIMITS) -> None:
        self._journal = journal
        self._limits = limits
        self._given: dict[int, set[int]] = {}
        self._revoked: dict[int, dict[int, None]] = {}
        self._visits: dict[tuple[int, int], float] = {}
        self.pairs = 0

    def trusted(self, one: int, other: int) -> bool:
        """@return: whether both consented."""
        return other in self._given.get(one, ()) and one in self._given.get(other, ())

    def ask(self, node: int, peer: int) -> None:
        """
        C{node} asks C{peer} for trust.

        @raise Refusal: it has consented to too many.
        """
        given = self._given.get(node, ())
        if peer not in given:
            if len(given) >= self._limits.consents_per_node:
                raise Refusal(f"too many trusted peers (max {self._limits.consents_per_node})")
            self._give(node, peer)

    def agree(self, node: int, peer: int, now: float) -> None:
        """
        C{node} declares or accepts trust with C{peer}.

        @raise Refusal: it has consented to too many.
        """
        self.ask(node, peer)
        visited = self._visits.get((peer, node))
        if (
            visited is not None
            and now - visited <= self._limits.visit_counts
            and node not in self._given.get(peer, ())
            and node not in self._revoked.get(peer, ())
            and len(self._given.get(peer, ())) < self._limits.consents_per_node
        ):
            self._give(peer, node)

    def revoke(self, node: int, peer: int) -> bool:
        """
        C{node} takes trust back, for both.

        @return: whether there was any consent between the two.
        """
        found = self._take(node, peer)
        if node != peer:
            found = self._take(peer, node) or found
        if found:
            self._refuse(node, peer)
        return found

    def reject(self, node: int, peer: int) -> None:
        """C{node} does not want the trust that C{peer} asked for."""
        if peer not in self._given.get(node, ()):
            self._refuse(node, peer)

    def visit(self, visitor: int, node: int, now: float) -> None:
        """C{visitor} was told where C{node} is."""
        if not self._limits.visit_counts:
            return
        visits = self._visits
        visits.pop((visitor, node), None)
        visits[visitor, node] = now  # at the end: the order is that of time
        if len(visits) > self._limits.visits:
            del visits[next(iter(visits))]

    def sweep(self, now: float) -> None:
        """Forget the visits that no longer count."""
        old = now - self._limits.visit_counts
        while self._visits:
            first = next(iter(self._visits))
            if self._visits[first] > old:
                return
            del self._visits[first]

    def forget(self, node: int) -> None:
        """C{node} will never come back."""
        for peer in list(self._given.get(node, ())):
            self._take(node, peer)
            self._take(peer, node)
        for peer in self._revoked.pop(node, ()):
            self._journal.delete(Table.CONSENT, (node, peer))

    def links_within(self, members: Iterable[int]) -> int:
        """@return: trusted pairs with both ends among C{members}."""
        among = set(members)
        return sum(
            1
            for node in among
            for peer in self._given.get(node, ())
            if node <= peer and peer in among and node in self._given.get(peer, ())
        )

    def restore(self, node: int, peer: int, value: bytes) -> None:
        """@raise ValueError: C{value} is no row of ours."""
        if value == _GIVEN:
            self._given.setdefault(node, set()).add(peer)
            if self.trusted(node, peer):
                self.pairs += 1
        elif value == _REVOKED:
            self._revoked.setdefault(node, {})[peer] = None
        else:
            raise ValueError(f"consent {node}:{peer} reads {value!r}")

    def _refuse(self, node: int, peer: int) -> None:
        self._visits.pop((node, peer), None)
        revoked = self._revoked.setdefault(node, {})
        revoked[peer] = None
        self._journal.put(Table.CONSENT, (node, peer), _REVOKED)
        if len(revoked) > self._limits.consents_per_node:
            oldest = next(iter(revoked))
            del revoked[oldest]
            self._journal.delete(Table.CONSENT, (node, oldest))

    def _give(self, node: int, peer: int) -> None:
        self._revoked.get(node, {}).pop(peer, None)
        self._given.setdefault(node, set()).add(peer)
        self._journal.put(Table.CONSENT, (node, peer), _GIVEN)
        if self.trusted(node, peer):
            self.pairs += 1

    def _take(self, node: int, peer: int) -> bool:
        given = self._given.get(node)
        if given is None or peer not in given:
            return False
        if self.trusted(node, peer):
            self.pairs -= 1
        given.discard(peer)
        if not given:
            del self._given[node]
        self._journal.delete(Table.CONSENT, (node, peer))
        return True
