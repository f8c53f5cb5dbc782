"""The gossip skill: shared state that spreads through a swarm without a coordinator."""
