"""Application protocols that announce further connections: payload -> expectation."""
