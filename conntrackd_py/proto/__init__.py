"""One tracker a file: what each layer 4 protocol says about the state and life of a connection."""
