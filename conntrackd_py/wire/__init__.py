"""Bytes <-> fields: what stands where in a packet. No state, no policy."""
