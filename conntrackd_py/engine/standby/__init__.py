"""What an engine does that waits to take over: it follows the table of another one and tracks nothing."""
