"""`conntrackd-py top`: the table, the traffic and the hosts, live."""
