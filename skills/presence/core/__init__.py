"""The sans-IO core of the presence skill: claims, directory, verification; no Twisted."""
