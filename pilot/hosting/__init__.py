"""Hosting skills: each guarded, supervised, and reachable through a Unix socket of its own."""
