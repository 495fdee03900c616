"""The packet of a translated connection: addresses, ports, numbers, payload and MSS."""
