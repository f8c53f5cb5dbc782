"""The reliable stream, sans-IO: segments, acknowledgements, recovery, flow and congestion control.

L{pilot.stream.connection.Connection} is the way in; a shell feeds it segments and the time, and
asks it what to send and when to be woken.
"""
