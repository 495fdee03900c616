"""The daemon around the engine: control socket, metrics, logs, systemd."""
