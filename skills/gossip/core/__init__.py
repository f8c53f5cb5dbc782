"""The sans-IO core of the gossip skill: registers, clock, digests, exchanges; no Twisted."""
