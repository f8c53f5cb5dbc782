"""Who may connect: the handshake, its relay through the registry, the trust file and the gate."""
