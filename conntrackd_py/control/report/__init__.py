"""Rows that status, top and the metrics show: pools, port blocks, targets, rules of the filter."""
