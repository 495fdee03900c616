"""conntrackd-py: the operator's command."""
