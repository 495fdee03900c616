"""conntrack-py: conntrack(8) for the daemon's table."""
