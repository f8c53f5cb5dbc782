"""Puts a node together, starts it, stops it."""

from __future__ import annotations
