"""A WSGI application with a path for each thing that can happen."""

import hashlib
import json
import os
import sys
import time
from pathlib import Path


def application(environ, start_response):
    path = environ["PATH_INFO"]
    return PATHS.get(path, tell)(environ, start_response)


def tell(environ, start_response):
    """Say what was asked."""
    body = environ["wsgi.input"].read()
    context = environ["fc.context"]
    told = {
        name: value
        for name, value in environ.items()
        if isinstance(value, str) and (name.isupper() or name.startswith("wsgi"))
    }
    told["body"] = body[:100].decode("latin-1")
    told["digest"] = hashlib.sha256(body).hexdigest()
    told["fc.request_uri"] = environ["fc.request_uri"]
    told["request_id"] = context.request_id
    told["function"] = context.function.name
    print("telling")
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(told).encode()]


def headers(environ, start_response):
    start_response(
        "201 Made It",
        [
            ("Content-Type", "text/plain"),
            ("Set-Cookie", "a=1"),
            ("Set-Cookie", "b=2"),
            ("X-Fc-Secret", "no"),
            ("x-fc-request-id", "forged"),
            ("Connection", "close"),
            ("Keep-Alive", "timeout=1"),
            ("Date", "yesterday"),
            ("Server", "mine"),
            ("Content-Disposition", "attachment; filename=a"),
            ("X-Kept", "yes"),
        ],
    )
    return [b"made"]


def stream(environ, start_response):
    """Send pieces, each when the file of its number is there."""
    gate = environ["QUERY_STRING"]
    start_response("200 OK", [("Content-Type", "text/plain")])
    for number in range(3):
        while not Path(f"{gate}{number}").exists():
            time.sleep(0.01)
        yield b"piece %d\n" % number


def endless(environ, start_response):
    start_response("200 OK", [])
    try:
        while True:
            yield b"x" * 65536
            time.sleep(0.001)
    finally:
        print("closed", flush=True)


def dies(environ, start_response):
    start_response("200 OK", [])
    yield b"first\n"
    time.sleep(0.2)
    os._exit(3)


def dies_with_length(environ, start_response):
    start_response("200 OK", [("Content-Length", "100")])
    yield b"first\n"
    time.sleep(0.2)
    os._exit(3)


def raises_late(environ, start_response):
    start_response("200 OK", [])
    yield b"first\n"
    raise ValueError("in the middle")


def hangs_late(environ, start_response):
    start_response("200 OK", [])
    yield b"first\n"
    time.sleep(60)


def raises(environ, start_response):
    raise ValueError("a secret of the house")


def exits(environ, start_response):
    os._exit(4)


def silent(environ, start_response):
    return [b"no start_response"]


def text(environ, start_response):
    start_response("200 OK", [])
    return ["not bytes"]


def splits_header(environ, start_response):
    start_response("200 OK", [("X-Evil", "a\r\nX-Injected: b")])
    return [b""]


def bad_status(environ, start_response):
    start_response("OK", [])
    return [b""]


def writes(environ, start_response):
    write = start_response("200 OK", [("Content-Type", "text/plain")])
    write(b"written, ")
    return [b"returned"]


def starts_over(environ, start_response):
    start_response("200 OK", [("X-First", "1")])
    try:
        {}["changed my mind"]
    except KeyError:
        start_response("500 Sorry", [("X-Second", "2")], sys.exc_info())
    return [b"sorry"]


def empty(environ, start_response):
    start_response("204 No Content", [])
    return [b""]


def not_modified(environ, start_response):
    start_response("304 Not Modified", [("ETag", '"1"')])
    return [b"ignored"]


def large(environ, start_response):
    size = int(environ["QUERY_STRING"])
    start_response("200 OK", [("Content-Length", str(size))])
    for _ in range(size // 65536):
        yield b"y" * 65536
    yield b"y" * (size % 65536)


def fails(environ, start_response):
    start_response("503 Busy", [("Content-Type", "text/plain")])
    return [b"my own failure"]


PATHS = {
    "/headers": headers,
    "/stream": stream,
    "/endless": endless,
    "/dies": dies,
    "/dies-with-length": dies_with_length,
    "/raises-late": raises_late,
    "/hangs-late": hangs_late,
    "/raises": raises,
    "/exits": exits,
    "/silent": silent,
    "/text": text,
    "/splits-header": splits_header,
    "/bad-status": bad_status,
    "/writes": writes,
    "/starts-over": starts_over,
    "/empty": empty,
    "/not-modified": not_modified,
    "/large": large,
    "/fails": fails,
}


def event_handler(event, context):
    return event


def handler(environ, start_response):
    """Be for both, as a handler of the built-in runtime is."""
    return tell(environ, start_response)


not_an_application = 3
