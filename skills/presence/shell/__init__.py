"""The hands of the presence skill: datagrams, pings, files and calls, on Twisted."""
