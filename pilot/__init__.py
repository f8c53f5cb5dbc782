"""The Pilot Protocol on Twisted.

This file imports nothing: C{pilotctl} pays for every import on each call.
"""
