"""The built-in services: each an ordinary Twisted Protocol and Factory on a virtual port."""
