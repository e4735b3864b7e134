"""What the handler sees of its invocation and its surroundings."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator

import pytest

from tests.support.server import HANDLERS, Server

#: What Function Compute 3.0 was seen to send: its spelling, and much of it empty.
DUMP = {
    "X-Fc-Request-Id": "1-67a46b2e-15de0407-cbb76138ab7f",
    "X-Fc-Access-Key-Id": "STS.key",
    "X-Fc-Access-Key-Secret": "s3cr3t",
    "X-Fc-Security-Token": "token",
    "X-Fc-Function-Handler": "index.handler",
    "X-Fc-Function-Memory": "1024",
    "X-Fc-Function-Name": "my-function",
    "X-Fc-Function-Timeout": "3",
    "X-Fc-Function-Initializer": "index.init",
    "X-Fc-Initialization-Timeout": "30",
    "X-Fc-Region": "cn-shenzhen",
    "X-Fc-Account-Id": "123456",
    "X-Fc-Qualifier": "LATEST",
    "X-Fc-Version-Id": "",
    "X-Fc-Service-Name": "",
    "X-Fc-Service-Logproject": "project",
    "X-Fc-Service-Logstore": "store",
    "X-Fc-Control-Path": "/invoke",
    "X-Fc-Base-Path": "",
    "X-Fc-Retry-Count": "2",
    "X-Fc-Client-Ip": "10.0.0.1",
    "X-Fc-Api-Server-Ip": "",
    "X-Fc-Eagleeye-Traceid": "",
    "X-Fc-Eagleeye-Rpcid": "",
    "X-Fc-Eagleeye-Userdata": "",
    "X-Fc-Tracing-Jaeger-Endpoint": "http://jaeger:14268",
    "X-Fc-Tracing-Opentracing-Span-Context": "5f22f355044a957a:5708a2b0:0:1",
    "X-Fc-Tracing-Opentracing-Span-Baggages": base64.b64encode(b'{"k": "v"}').decode(),
    "User-Agent": "Go-http-client/1.1",
    "Accept-Encoding": "gzip",
    "Content-Type": "application/octet-stream",
}

ENVIRONMENT = {
    # kept
    "FC_FUNCTION_MEMORY_SIZE": "512",
    "FC_RUNTIME_VERSION": "1",
    "FC_ACCOUNT_ID": "123456",
    "FC_FUNCTION_NAME": "my-function",
    "FC_SERVICE_NAME": "svc",
    "FC_VER_ID": "1",
    "FC_QUALIFIER": "LATEST",
    "FC_REGION": "cn-shenzhen",
    "FC_INSTANCE_ID": "c-1",
    "TZ": "Asia/Shanghai",
    "MY_SETTING": "a=b=c",
    "MY_EMPTY": "",
}
REMOVED = {
    "FC_SERVER_LOG_LEVEL": "INFO",
    "FC_RUNTIME_API": "127.0.0.1:1",
    "FC_CONCURRENT_LIMIT": "1",
    "FC_CONTAINER_ID": "c",
    "_FC_LOG_FD": "3",
    "ISORUNTIME_QUEUE": "50",
    "ISORUNTIME_ADMIN_TOKEN": "hidden",
    "ALIBABA_CLOUD_ACCESS_KEY_ID": "hidden",
    "ALIBABA_CLOUD_ACCESS_KEY_SECRET": "hidden",
    "ALIBABA_CLOUD_SECURITY_TOKEN": "hidden",
    "accessKeyID": "hidden",
    "accessKeySecret": "hidden",
    "securityToken": "hidden",
}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server("contexts.handler", env={**ENVIRONMENT, **REMOVED}) as started:
        yield started


def test_every_header_has_its_place_in_the_context(server: Server) -> None:
    seen = server.invoke("fields", DUMP).json()
    assert seen["request_id"] == seen["requestId"] == DUMP["X-Fc-Request-Id"]
    credentials = seen["credentials"]
    assert credentials["access_key_id"] == credentials["accessKeyId"] == "STS.key"
    assert credentials["access_key_secret"] == "s3cr3t"
    assert credentials["accessKeySecret"] == "s3cr3t"
    assert credentials["security_token"] == credentials["securityToken"] == "token"
    function = seen["function"]
    assert function["name"] == "my-function"
    assert function["handler"] == "index.handler"
    assert function["memory"] == 1024
    assert function["timeout"] == 3
    assert function["qualifier"] == "LATEST"
    assert not function["version_id"]
    service = seen["service"]
    assert service["log_project"] == seen["log_project"] == "project"
    assert service["log_store"] == seen["log_store"] == "store"
    assert service["qualifier"] == "LATEST"
    assert seen["region"] == "cn-shenzhen"
    assert seen["account_id"] == "123456"
    assert seen["retry_count"] == 2
    assert seen["tracing"]["span_context"] == "5f22f355044a957a:5708a2b0:0:1"
    assert seen["tracing"]["span_baggages"] == {"k": "v"}
    assert seen["tracing"]["jaeger_endpoint"] == "http://jaeger:14268"


def test_header_names_may_be_in_any_case(server: Server) -> None:
    lowered = {name.lower(): value for name, value in DUMP.items()}
    assert (
        server.invoke("fields", lowered).json() == server.invoke("fields", DUMP).json()
    )


def test_a_context_without_headers_has_every_field(server: Server) -> None:
    bare, full = server.invoke("fields").json(), server.invoke("fields", DUMP).json()
    assert bare.keys() == full.keys()
    for part in ("credentials", "function", "service", "tracing"):
        assert bare[part].keys() == full[part].keys()
    assert isinstance(bare["function"]["memory"], int)
    assert isinstance(bare["function"]["timeout"], int)
    assert isinstance(bare["retry_count"], int)
    assert bare["tracing"]["span_context"] is None


def test_the_context_of_one_invocation_is_not_seen_by_the_next(server: Server) -> None:
    server.invoke("fields", {**DUMP, "X-Fc-Region": "cn-hangzhou"})
    later = server.invoke("fields")
    for given in (b"STS.key", b"s3cr3t", b"jaeger:14268", b"cn-hangzhou"):
        assert given not in later.body


def test_every_invocation_sees_its_own_headers(server: Server) -> None:
    """Most are the same bytes in thousands of requests, which is made use of."""
    for number, (key, span) in enumerate(
        [
            ("a", "1"),
            ("a", "1"),
            ("b", "1"),
            ("a", "2"),
            *(("b", f"{n}") for n in range(9)),
        ]
        * 2
    ):
        told = {
            "X-Fc-Access-Key-Id": f"STS.{key}",
            "X-Fc-Request-Id": f"1-{number:08x}-0-0",
            "X-Fc-Tracing-Opentracing-Span-Context": span,
        }
        seen = server.invoke("fields", {**DUMP, **told}).json()
        assert seen["request_id"] == told["X-Fc-Request-Id"]
        assert seen["credentials"]["access_key_id"] == told["X-Fc-Access-Key-Id"]
        assert seen["credentials"]["access_key_secret"] == "s3cr3t"
        assert seen["tracing"]["span_context"] == span


def test_broken_baggage_is_no_baggage(server: Server) -> None:
    name = "X-Fc-Tracing-Opentracing-Span-Baggages"
    for broken in ("not base64!", base64.b64encode(b"not json").decode()):
        reply = server.invoke("fields", {**DUMP, name: broken})
        assert reply.json()["tracing"]["span_baggages"] == {}


def test_to_json_has_the_built_in_runtime_s_keys(server: Server) -> None:
    assert json.loads(server.invoke("json", DUMP).body) == {
        "requestId": DUMP["X-Fc-Request-Id"],
        "credentials": {
            "accessKeyId": "STS.key",
            "accessKeySecret": "s3cr3t",
            "securityToken": "token",
        },
        "function": {
            "name": "my-function",
            "handler": "index.handler",
            "memory": 1024,
            "timeout": 3,
        },
        "service": {
            "name": json.loads(server.invoke("json", DUMP).body)["service"]["name"],
            "logProject": "project",
            "logStore": "store",
            "qualifier": "LATEST",
            "versionId": json.loads(server.invoke("json", DUMP).body)["service"][
                "versionId"
            ],
        },
        "region": "cn-shenzhen",
        "accountId": "123456",
        "retryCount": 2,
        "tracing": {
            "openTracingSpanContext": "5f22f355044a957a:5708a2b0:0:1",
            "openTracingSpanBaggages": {"k": "v"},
            "jaegerEndpoint": "http://jaeger:14268",
        },
    }


def test_remaining_time_falls_below_the_platform_s_limit(server: Server) -> None:
    first, second = server.invoke("remaining", DUMP).json()
    assert 0 <= second <= first <= 3000


def test_the_environment_keeps_what_the_platform_s_list_says(server: Server) -> None:
    seen = server.invoke("environment").json()
    assert {name: seen.get(name) for name in ENVIRONMENT} == ENVIRONMENT
    assert not REMOVED.keys() & seen.keys()
    assert not [name for name in seen if name.startswith("ISORUNTIME_")]
    assert "hidden" not in seen.values()
    assert seen["PATH"]


def test_the_process_is_as_a_function_expects(server: Server) -> None:
    assert server.invoke("process").json() == {
        "cwd": str(HANDLERS),
        "path0": str(HANDLERS),
        "stdin": "",
        "event": "bytes",
        "module": "contexts",
    }
