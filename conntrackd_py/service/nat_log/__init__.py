"""The NAT log: who had which outer address and port. keeper runs in the daemon's loop, writer in a thread."""
