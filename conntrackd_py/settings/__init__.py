"""The configuration file: its schema, its checks, its errors."""
