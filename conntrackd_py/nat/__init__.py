"""Which address and port a connection gets, and how its packets are rewritten."""
