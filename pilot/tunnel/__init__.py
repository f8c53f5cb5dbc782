"""The tunnel: encrypted datagrams to peers, however they can be reached."""
