"""Whether the Prefect server answers without a login."""

from http import HTTPStatus

from prefect.client.orchestration import get_client
from prefect.exceptions import PrefectHTTPStatusError
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_KEY, temporary_settings

from maintenance.checks.finding import Finding, error, ok, warning

LOGIN = "server's login"
ACTION = (
    "set PREFECT_SERVER_API_AUTH_STRING for the server and PREFECT_API_AUTH_STRING for its clients"
)
DANGER = (
    "not needed: every client that reaches the server, and every web page in a browser there, can"
    " run commands on the worker's machine"
)
FOREIGN = "http://page.invalid"
"""An origin that cannot be the UI's."""


def check_login() -> Finding:
    """Ask the server without a login, as a web page of another origin does.

    Raises:
        httpx.HTTPError: the server does not answer.
    """
    secrets = {PREFECT_API_AUTH_STRING, PREFECT_API_KEY}
    with temporary_settings(restore_defaults=secrets), get_client(sync_client=True) as client:
        try:
            answer = client.request("GET", "/admin/version", headers={"Origin": FOREIGN})
        except PrefectHTTPStatusError as refused:
            answer = refused.response
    if answer.status_code != HTTPStatus.UNAUTHORIZED:
        return error(LOGIN, DANGER, ACTION)
    if answer.headers.get("access-control-allow-origin") in ("*", FOREIGN):
        return warning(
            LOGIN,
            "needed, but web pages of all origins may read the server's answers",
            "set PREFECT_SERVER_CORS_ALLOWED_ORIGINS to the address of the UI",
        )
    return ok(LOGIN, "needed")
