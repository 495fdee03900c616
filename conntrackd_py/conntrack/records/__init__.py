"""Connections, expectations and interfaces as bytes."""
