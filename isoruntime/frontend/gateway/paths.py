"""Paths of the invocation API in its three forms, and what each of them asks for.

FC 3.0   /2023-03-30/functions/NAME/invocations?qualifier=Q
FC-Open  /2021-04-06/services/SERVICE/functions/NAME/invocations?qualifier=Q
FC 2.0   /2016-08-15/services/SERVICE[.Q]/functions/NAME/invocations
         /2016-08-15/proxy/SERVICE[.Q]/NAME/what/the/function/is/asked
"""

from __future__ import annotations

import re
from urllib.parse import parse_qsl, unquote

from isoruntime.frontend.gateway.refusals import Refusal
from isoruntime.typed import Final, NamedTuple

FC3: Final = "2023-03-30"
FC_OPEN: Final = "2021-04-06"
FC2: Final = "2016-08-15"
_PREFIXES: Final = tuple(f"/{version}/" for version in (FC3, FC_OPEN, FC2))

LATEST: Final = "LATEST"
_is_qualifier: Final = re.compile(r"[A-Za-z0-9_-]{1,128}").fullmatch
_NAMED: Final = "functions/NAME/invocations"


class Target(NamedTuple):
    """Which function is asked, and how."""

    version: str
    function: str
    service: str = ""
    qualifier: str = LATEST
    #: of a request to an HTTP function: the part of the path that leads to it
    base_path: str = ""

    @property
    def is_http(self) -> bool:
        """Whether it is a request that the function is to see as it is."""
        return bool(self.base_path)


def is_of_api(path: str) -> bool:
    """Tell whether a path is one of the API's, whatever it asks for."""
    return path.startswith(_PREFIXES)


def target_of(path: str, query: str) -> Target:
    """Return what a path asks for; it and `query` are as they were sent, still quoted.

    Raises:
        Refusal: it asks for something that is not answered here.
    """
    _, version, *parts = path.split("/")
    if version == FC3:
        found = _by_function(version, parts, query)
    elif parts and parts[0] == "proxy" and version == FC2:
        found = _by_proxy(parts)
    else:
        found = _by_service(version, parts, query)
    if found is None or not found.function:
        raise Refusal(
            "PathNotSupported",
            f"{path} is not answered here: invocations are, at {_shape_of(version)}",
        )
    if not _is_qualifier(found.qualifier):
        raise Refusal(
            "InvalidArgument",
            f"'{found.qualifier}' is no qualifier: give {LATEST}, a version or an alias",
        )
    return found


def _by_function(version: str, parts: list[str], query: str) -> Target | None:
    if len(parts) != 3 or (parts[0], parts[2]) != ("functions", "invocations"):
        return None
    return Target(version, unquote(parts[1]), qualifier=_qualifier_in(query))


def _by_service(version: str, parts: list[str], query: str) -> Target | None:
    if len(parts) != 5 or (parts[0], parts[2], parts[4]) != (
        "services",
        "functions",
        "invocations",
    ):
        return None
    service, qualifier = _split(parts[1])
    if version == FC_OPEN and not qualifier:
        qualifier = _qualifier_in(query)
    return Target(version, unquote(parts[3]), service, qualifier or LATEST)


def _by_proxy(parts: list[str]) -> Target | None:
    if len(parts) < 3 or not parts[1]:
        return None
    service, qualifier = _split(parts[1])
    base_path = f"/{FC2}/proxy/{parts[1]}/{parts[2]}/"
    return Target(FC2, unquote(parts[2]), service, qualifier or LATEST, base_path)


def _split(service: str) -> tuple[str, str]:
    name, _, qualifier = unquote(service).partition(".")
    return name, qualifier


def _qualifier_in(query: str) -> str:
    return dict(parse_qsl(query)).get("qualifier", "") or LATEST


def _shape_of(version: str) -> str:
    if version == FC3:
        return f"/{FC3}/{_NAMED}"
    shape = f"/{version}/services/SERVICE/{_NAMED}"
    return f"{shape} and /{FC2}/proxy/SERVICE/NAME/..." if version == FC2 else shape
