"""Makes calls with one of the platform's Python clients, in an environment that has them.

    call.py CLIENT PORT ID SECRET CALLS

CALLS is a JSON list of objects with `function`, and perhaps `event`, `service`,
`qualifier`, `headers`, and `path` for an HTTP function. Printed is a list with what each
call gave: `status`, `headers` and `body`, or `error` with `code` and `message`.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable
from typing import Any

Call = dict[str, Any]


def fc3(port: str, identity: str, secret: str) -> Callable[[Call], Any]:
    from alibabacloud_fc20230330.client import Client
    from alibabacloud_fc20230330.models import (
        InvokeFunctionHeaders,
        InvokeFunctionRequest,
    )
    from alibabacloud_tea_openapi.models import Config
    from darabonba.runtime import RuntimeOptions

    client = Client(_config(Config, port, identity, secret))

    def make(call: Call) -> Any:
        headers = InvokeFunctionHeaders(common_headers=call.get("headers"))
        request = InvokeFunctionRequest(
            qualifier=call.get("qualifier"), body=call.get("event", "").encode()
        )
        answer = client.invoke_function_with_options(
            call["function"], request, headers, RuntimeOptions()
        )
        return answer.status_code, answer.headers, answer.body.read()

    return make


def fc_open(port: str, identity: str, secret: str) -> Callable[[Call], Any]:
    from alibabacloud_fc_open20210406.client import Client
    from alibabacloud_fc_open20210406.models import (
        InvokeFunctionHeaders,
        InvokeFunctionRequest,
    )
    from alibabacloud_tea_openapi.models import Config
    from alibabacloud_tea_util.models import RuntimeOptions

    client = Client(_config(Config, port, identity, secret))

    def make(call: Call) -> Any:
        given = call.get("headers", {})
        headers = InvokeFunctionHeaders(
            x_fc_invocation_type=given.get("x-fc-invocation-type"),
            x_fc_log_type=given.get("x-fc-log-type"),
            x_fc_stateful_async_invocation_id=given.get("x-fc-async-task-id"),
        )
        request = InvokeFunctionRequest(
            qualifier=call.get("qualifier"), body=call.get("event", "").encode()
        )
        answer = client.invoke_function_with_options(
            call["service"], call["function"], request, headers, RuntimeOptions()
        )
        return answer.status_code, answer.headers, answer.body

    return make


def fc2(port: str, identity: str, secret: str) -> Callable[[Call], Any]:
    import fc2 as library

    client = library.Client(
        endpoint=f"http://127.0.0.1:{port}",
        accessKeyID=identity,
        accessKeySecret=secret,
    )

    def make(call: Call) -> Any:
        headers = dict(call.get("headers", {}))
        if "path" in call:
            answer = client.do_http_request(
                *("GET", call["service"], call["function"], call["path"]),
                headers=headers,
                params=call.get("query"),
            )
            return answer.status_code, dict(answer.headers), answer.content
        answer = client.invoke_function(
            *(call["service"], call["function"], call.get("event", "").encode()),
            headers=headers,
            qualifier=call.get("qualifier"),
        )
        return 200, dict(answer.headers), answer.data

    return make


def _config(kind: Any, port: str, identity: str, secret: str) -> Any:
    return kind(
        access_key_id=identity,
        access_key_secret=secret,
        endpoint=f"127.0.0.1:{port}",
        protocol="http",
        region_id="cn-hangzhou",
    )


def outcome_of(make: Callable[[Call], Any], call: Call) -> dict[str, Any]:
    try:
        status, headers, body = make(call)
    except Exception as error:  # noqa: BLE001 - each client has a kind of its own
        code = getattr(error, "code", None) or getattr(error, "err_code", None)
        return {"error": {"code": code, "message": str(error)}}
    return {
        "status": status,
        "headers": {name.lower(): value for name, value in headers.items()},
        "body": (body or b"").decode(),
    }


def main() -> None:
    logging.disable(logging.CRITICAL)
    client, port, identity, secret, calls = sys.argv[1:]
    make = {"fc3": fc3, "fc_open": fc_open, "fc2": fc2}[client](port, identity, secret)
    print(json.dumps([outcome_of(make, call) for call in json.loads(calls)]))


main()
