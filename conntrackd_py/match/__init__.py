"""The one matcher of addresses, ports, interfaces and protocols, for NAT, filter, raw and mark rules."""
