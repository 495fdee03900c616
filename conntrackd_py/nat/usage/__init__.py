"""Which outer ports are in use: counters, and the mappings of each source."""
