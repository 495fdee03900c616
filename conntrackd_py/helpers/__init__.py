"""Helpers: what the payload of a control connection says about the connections to come."""
