"""Reads and writes packet headers. No state, no policy."""
