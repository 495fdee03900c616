"""The hot standby: the active router publishes its connections to a stream of a server, the standby follows it.

journal ─► feed ─► frames ─► link (thread) ─► server ─► link (thread) ─► reader ─► engine/takeover
"""
