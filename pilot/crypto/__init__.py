"""Keys: who a node is, and what it seals with."""
