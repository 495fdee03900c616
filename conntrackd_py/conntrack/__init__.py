"""The nouns and verbs of the core: tuples, connections, the table, expectations, events."""
