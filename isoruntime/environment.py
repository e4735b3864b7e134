"""The rules for environment variables: what a worker gets to see.

Workers run foreign code, so nothing of ours and no credential may reach them:

    ISORUNTIME_*          never: they are the operator's words to the runtime
    credentials           never: an invocation brings its own, in its context
    FC_*, _FC_*           those the built-in runtime leaves (fc-contract.md 4.3)
    anything else         passes, it is the user's; but off Function Compute the
                          environment is the operator's shell, and names that
                          look like a credential stay behind unless allowed
"""

from __future__ import annotations

from isoruntime.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

#: Variables in which the platform hands out the credentials of the function's
#: role. The last three are those of FC 2.0.
CREDENTIALS = frozenset(
    {
        "ALIBABA_CLOUD_ACCESS_KEY_ID",
        "ALIBABA_CLOUD_ACCESS_KEY_SECRET",
        "ALIBABA_CLOUD_SECURITY_TOKEN",
        "accessKeyID",
        "accessKeySecret",
        "securityToken",
    }
)

#: The variables of the platform that a handler of the built-in runtime sees.
FC_VISIBLE = frozenset(
    {
        "FC_ACCOUNT_ID",
        "FC_FUNCTION_HANDLER",
        "FC_FUNCTION_MEMORY_SIZE",
        "FC_FUNCTION_NAME",
        "FC_FUNC_CODE_PATH",
        "FC_INSTANCE_ID",
        "FC_QUALIFIER",
        "FC_REGION",
        "FC_RUNTIME_VERSION",
        "FC_SERVICE_NAME",
        "FC_SNAPSHOT_FLAG",
        "FC_VER_ID",
    }
)

#: Every variable of ours begins like this.
OWN_PREFIX = "ISORUNTIME_"

# Parts of a name, in capitals, that make it look like a credential's.
_SECRET_WORDS = (
    "SECRET",
    "TOKEN",
    "PASSWORD",
    "PASSWD",
    "CREDENTIAL",
    "PRIVATE_KEY",
    "ACCESS_KEY",
    "API_KEY",
    "APIKEY",
)


def on_fc(environ: Mapping[str, str]) -> bool:
    """Tell whether this process was started by Function Compute."""
    return any(
        environ.get(name)
        for name in ("FC_INSTANCE_ID", "FC_FUNCTION_NAME", "FC_ACCOUNT_ID")
    )


def environment_for_workers(
    environ: Mapping[str, str], allow: Sequence[str], on_fc: bool
) -> tuple[dict[str, str], list[str]]:
    """Return the variables workers get, and the names of those withheld.

    `allow` are the names the operator let through with `--env`; a credential or
    a variable of ours stays behind even then. Withheld means: would have passed
    had `allow` named it, which is worth a line at the start. What never passes,
    and what the platform keeps to itself, is not listed.
    """
    allowed = frozenset(allow)
    passed: dict[str, str] = {}
    withheld: list[str] = []
    for name, value in environ.items():
        if is_never_passed(name):
            continue
        if name in allowed or name in FC_VISIBLE:
            passed[name] = value
        elif name.startswith(("FC_", "_FC_")):
            continue
        elif not on_fc and looks_like_a_credential(name):
            withheld.append(name)
        else:
            passed[name] = value
    return passed, sorted(withheld)


def is_never_passed(name: str) -> bool:
    """Tell whether no setting can let this variable through to a worker."""
    return name in CREDENTIALS or name.startswith(OWN_PREFIX)


def looks_like_a_credential(name: str) -> bool:
    """Tell whether a variable's name suggests that its value is secret."""
    name = name.upper()
    return any(word in name for word in _SECRET_WORDS)
