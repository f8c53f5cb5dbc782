"""Every format of the protocol, one module each: bytes to values and back, and nothing else.

Encoding gives the bytes of the reference; decoding is total: any bytes give a value or a
L{pilot.errors.WireError}.  This file imports nothing: C{pilotctl} pays for every import on each
call.
"""
