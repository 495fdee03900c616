"""Connections as JSON lines, for `export` and `import`: all that a record of the journal holds. docs/export.md."""
