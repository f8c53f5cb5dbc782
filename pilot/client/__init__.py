"""Clients of a running daemon: blocking for short-lived programs, Twisted for the others.

This file imports nothing: C{pilotctl} pays for every import on each call.
"""
