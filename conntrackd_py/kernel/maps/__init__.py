"""The maps from packet marks to translations, by which the kernel rewrites packets."""
