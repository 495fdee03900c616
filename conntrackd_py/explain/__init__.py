"""Everything that answers why: recent refusals, connections that expired in use, one-sided flows, sentences."""
