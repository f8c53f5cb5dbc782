"""Where two replicas differ, from what one of them tells: the cheapest explanation that fits.

@see: the page I{Gossip}, I{Finding differences}.
"""

from __future__ import annotations

from collections.abc import Iterable

from skills.gossip.core.digest import bucket_of
from skills.gossip.core.ledger import Ledger, fair
from skills.gossip.core.messages import Delta, Syn
from skills.gossip.core.register import Register
from skills.gossip.core.registers import RegisterMap

#: Wishes in one message.
WISHES = 512


def explain(ledger: Ledger, syn: Syn) -> tuple[list[Register], list[str], str]:
    """
    Explain why a partner's root is not ours.

    @return: what to give, in order; the hashes of keys to ask for; and our bucket sums, if nothing
        cheaper explains the difference.
    """
    registers = ledger.map
    behind = ledger.since(syn.root)
    if behind is not None:
        return fair(behind), [], ""
    if not syn.n:
        return fair(list(registers.all())), [], ""
    give: list[Register] = []
    want: list[str] = []
    added = 0
    for key_hash, hlc in syn.recent:
        held = registers.with_hash(key_hash)
        if held is None or held.hlc < hlc:
            want.append(key_hash)
            added += held is None
        elif held.hlc > hlc:
            give.append(held)
    if not len(registers) or (want and len(registers) + added == syn.n):
        return fair(give), want, ""
    return fair(give), want, registers.digest.pack()


def wished(registers: RegisterMap, want: Iterable[str]) -> list[Register]:
    """@return: what is held of what a partner asks for, by hashes of keys or numbers of buckets."""
    found = []
    buckets = set()
    for each in want:
        if len(each) == 2:
            buckets.add(int(each, 16))
        elif (register := registers.with_hash(each)) is not None:
            found.append(register)
    if buckets:
        found.extend(registers.in_buckets(buckets))
    return found


def holdings(
    registers: RegisterMap, differing: list[int], room: int
) -> tuple[list[tuple[str, str]], list[str]]:
    """
    Tell what is held in buckets that differ.

    @param differing: their numbers, in the order in which they matter.
    @param room: pairs that may be told.
    @return: (key hash, hlc), of whole buckets as far as they fit; and the buckets in which nothing
        is held, to be asked for.
    """
    held: dict[int, list[Register]] = {bucket: [] for bucket in differing}
    for register in registers.in_buckets(differing) if differing else ():
        held[bucket_of(register.key_hash)].append(register)
    have: list[tuple[str, str]] = []
    want: list[str] = []
    for bucket, inside in held.items():
        if not inside:
            want.append(f"{bucket:02x}")
        elif not have or len(have) + len(inside) <= room:
            have.extend((each.key_hash, each.hlc) for each in inside[:room])
    return have, want


def compare(registers: RegisterMap, delta: Delta) -> tuple[list[Register], list[str]]:
    """
    Compare what a partner holds in some buckets with what we hold there.

    @param delta: what the partner sent; its registers are merged already.
    @return: what the partner lacks, and what to ask for.
    """
    if not delta.have:
        return [], []
    theirs = dict(delta.have)
    buckets = {bucket_of(key_hash) for key_hash in theirs}
    explained = {bucket_of(each.key_hash) for each in delta.entries}
    equal: list[Register] = []
    give: list[Register] = []
    want: list[str] = []
    for register in registers.in_buckets(buckets):
        hlc = theirs.pop(register.key_hash, "")
        if hlc == register.hlc:
            equal.append(register)
            continue
        explained.add(bucket_of(register.key_hash))
        if hlc < register.hlc:
            give.append(register)
        else:
            want.append(register.key_hash)
    for key_hash in theirs:
        explained.add(bucket_of(key_hash))
        want.append(key_hash)
    # The same times and yet another sum: two authors wrote in the same instant, or somebody has
    # crafted hashes.  Then everything in the bucket is shown.
    unexplained = buckets - explained
    give.extend(each for each in equal if bucket_of(each.key_hash) in unexplained)
    want.extend(f"{bucket:02x}" for bucket in unexplained)
    return give, want[:WISHES]
