"""The state of the hot standby, for status and metrics, and its commands."""
