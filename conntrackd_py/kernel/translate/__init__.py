"""`rules translate`: the ct state matches of a ruleset as matches of the packet mark."""
