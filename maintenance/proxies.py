"""Proxies of the environment: a server on this machine is asked without them.

The HTTP clients take HTTP_PROXY, ALL_PROXY and the like from the environment. A proxy cannot reach
the loopback of this machine, so a Prefect server there would seem to be away. Only the standard
library is imported here, because `flows.engine` uses it before anything else is imported.
"""

import os
from collections.abc import MutableMapping
from importlib.util import find_spec
from urllib.parse import urlsplit

THIS_MACHINE = ("127.0.0.1", "localhost", "::1")
EXCEPTIONS = ("no_proxy", "NO_PROXY")
VARIABLES = ("http_proxy", "https_proxy", "all_proxy")


def pass_by_proxies(environment: MutableMapping[str, str] = os.environ) -> None:
    """Exempt this machine from the proxies that the environment names, and drop unusable ones.

    A SOCKS proxy makes the HTTP client fail for every address, exempt or not, where the package
    `socksio` is not installed.
    """
    named = [name for name in environment if name.lower() in VARIABLES and environment[name]]
    for name in named:
        if _is_socks(environment[name]) and find_spec("socksio") is None:
            del environment[name]
    if not named:
        return
    stated = next((environment[name] for name in EXCEPTIONS if environment.get(name)), "")
    listed = [part.strip() for part in stated.split(",") if part.strip()]
    if "*" in listed:
        return
    exempt = ",".join([*listed, *(one for one in THIS_MACHINE if one not in listed)])
    environment.update(dict.fromkeys(EXCEPTIONS, exempt))


def _is_socks(address: str) -> bool:
    try:
        return urlsplit(address).scheme.startswith("socks")
    except ValueError:
        return False
