"""The hands of the gossip skill: files, messages, members and calls, on Twisted."""
