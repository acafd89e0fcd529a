"""A free port of this machine."""

import socket
import sys

LOCALHOST = "127.0.0.1"

_reserved: list[socket.socket] = []


def free_port() -> int:
    """Return a port that is free now, for a server that binds it by its number.

    On Linux it stays reserved until this process ends: no other process is given it, unless that
    asks for it by its number, as the server does. Elsewhere another process may be faster.
    """
    probe = socket.socket()
    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    probe.bind((LOCALHOST, 0))
    port: int = probe.getsockname()[1]
    if sys.platform == "linux":
        _reserved.append(probe)
    else:
        probe.close()
    return port
