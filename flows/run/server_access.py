"""Whether the Prefect server can be used, and why not: asked with Prefect's own client.

The client knows what is configured: a certificate of one's own, a login, a trailing slash.
"""

import ssl
from http import HTTPStatus
from urllib.parse import urlsplit

import httpx
from prefect.client.orchestration import get_client
from prefect.exceptions import PrefectHTTPStatusError
from prefect.settings import (
    PREFECT_API_AUTH_STRING,
    PREFECT_API_REQUEST_TIMEOUT,
    PREFECT_API_URL,
    PREFECT_CLIENT_MAX_RETRIES,
    PREFECT_CLIENT_SERVER_VERSION_CHECK_ENABLED,
    temporary_settings,
)

PROBE_SECONDS = 5.0
REFUSED = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)
OTHER_ADDRESS = "PREFECT_API_URL must be the address of the API, like http://127.0.0.1:4200/api"
NO_API = (HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED)


def why_no_server(seconds: float = PROBE_SECONDS) -> str | None:
    """Return why there is no Prefect server to use, with what to do about it.

    Args:
        seconds: how long the server may take to answer.

    Returns:
        None when the server can be used; an empty text when none is configured.
    """
    if not PREFECT_API_URL.value():
        return ""
    short = {
        PREFECT_API_REQUEST_TIMEOUT: seconds,
        PREFECT_CLIENT_MAX_RETRIES: 0,
        PREFECT_CLIENT_SERVER_VERSION_CHECK_ENABLED: False,
    }
    try:
        with temporary_settings(short), get_client(sync_client=True) as client:
            client.api_version()  # unlike the health check, this needs the login, and is JSON
    except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
        return "; ".join(explain_access(error))
    return None


def explain_access(error: Exception) -> tuple[str, str]:
    """Return the cause of a failed request to the Prefect server, and what to do.

    Neither holds the name and password of the address.
    """
    where = address()
    if isinstance(error, PrefectHTTPStatusError | httpx.HTTPStatusError):
        status = error.response.status_code
        if status in REFUSED:
            return _of_login(status)
        if status in NO_API:
            return f"there is no Prefect API at {where} ({status})", OTHER_ADDRESS
        return f"the Prefect server at {where} answered {status}", "look into its log"
    if isinstance(error, ValueError) and not isinstance(error, OSError):
        return f"what answers at {where} is no Prefect API", OTHER_ADDRESS
    refused = _of_certificate(error)
    if refused is not None:
        return (
            f"the certificate of the Prefect server at {where} is not trusted: {refused}",
            "set PREFECT_API_SSL_CERT_FILE to the certificate of its authority",
        )
    return (
        f"no Prefect server answers at {where} ({type(error).__name__})",
        "see that it runs and that PREFECT_API_URL is right",
    )


def address() -> str:
    """Return the server's address without user name and password."""
    try:
        parts = urlsplit(PREFECT_API_URL.value() or "")
    except ValueError:
        return "the address in PREFECT_API_URL"
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _of_login(status: int) -> tuple[str, str]:
    if PREFECT_API_AUTH_STRING.value():
        cause = f"the Prefect server at {address()} refuses the login ({status})"
    else:
        cause = f"the Prefect server at {address()} wants a login ({status})"
    return cause, "set PREFECT_API_AUTH_STRING as the server has it"


def _of_certificate(error: BaseException) -> str | None:
    """Return why a certificate was not accepted, from the chain of an error's causes."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, ssl.SSLCertVerificationError):
            return seen.verify_message
        seen = seen.__cause__ or seen.__context__
    return "CERTIFICATE_VERIFY_FAILED" if "CERTIFICATE_VERIFY_FAILED" in str(error) else None
