"""Presence: who is there, who takes work, and how sure we are."""
