"""Prometheus metrics: counters as families, the collector, the HTTP server."""
