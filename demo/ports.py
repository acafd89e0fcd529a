"""A free port of this machine."""

import socket

LOCALHOST = "127.0.0.1"


def free_port() -> int:
    """Return a port that is free now; who binds it later must expect that it no longer is."""
    with socket.socket() as probe:
        probe.bind((LOCALHOST, 0))
        port: int = probe.getsockname()[1]
        return port
