"""Shared state of a swarm: a map of registers that every member holds and news keep equal."""
