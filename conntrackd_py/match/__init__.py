"""What a rule compares a packet with, once for NAT, filter, raw and mark rules, and how these values are written."""
