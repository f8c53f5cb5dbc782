"""A guest book for Pilot nodes."""
