"""The rendezvous: the directory of nodes over TCP, its storage, its client, and the UDP beacon."""
