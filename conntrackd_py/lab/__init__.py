"""Client, router and server in network namespaces, with real traffic between them."""
