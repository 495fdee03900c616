"""A client, a router and a server in network namespaces, with real traffic between them."""
