"""Whole swarms in one process: the real cores on simulated clocks and links.

One seed decides a run: the same seed gives the same events, one for one.
"""
