"""Connections of a former process, or of another router: restore reads records, standby follows them."""
