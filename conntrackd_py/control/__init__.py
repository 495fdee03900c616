"""The control socket: its requests and answers, the server, the client."""
