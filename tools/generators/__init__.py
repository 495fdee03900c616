"""Generate shell completion and manual pages: `scripts/generate` writes share/."""
