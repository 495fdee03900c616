"""Carrier-grade NAT: each inside address has outer ports of its own, in blocks or slices."""
