"""The node: virtual ports, streams and datagrams over the tunnel, as Twisted endpoints."""
