"""Signatures, checked over HTTP with ones that the tests work out themselves."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.contract.test_gateway import FC2, FC3, assert_refused
from tests.support.server import Reply, Server
from tests.support.signing import acs3, fc2

KEY = ("LTAIme", "sesame-open")
MB = 1 << 20
PROXY = "/2016-08-15/proxy/svc/fn"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    options = ("--gateway", "--key", ":".join(KEY))
    with Server("called.handler", *options) as started:
        started.wait_for_line("runtime inited")
        yield started


def send(
    server: Server, headers: dict[str, str], event: bytes = b"hi", path: str = FC3
) -> Reply:
    return server.request("POST", path, event, headers)


@pytest.mark.parametrize(
    "target",
    [FC3, f"{FC3}?qualifier=LATEST", "/2023-03-30/functions/a%2Fb/invocations"],
)
def test_a_signature_of_fc_3_opens(server: Server, target: str) -> None:
    headers = acs3("POST", target, b"hi", KEY, {"x-fc-log-type": "Tail"})
    assert send(server, headers, path=target).body == b"hi"


def test_a_signature_of_fc_2_opens(server: Server) -> None:
    headers = fc2("POST", FC2, KEY, {"x-fc-invocation-type": "Sync"})
    assert send(server, headers, path=FC2).body == b"hi"


@pytest.mark.parametrize("query", ["", "?b=2&a=%20x"])
def test_a_signature_of_an_http_request_is_of_its_query_too(
    server: Server, query: str
) -> None:
    target = f"{PROXY}/a%20b{query}"
    signed = fc2("GET", target, KEY, signs_query=bool(query))
    # It gets as far as the function, which takes events only.
    assert_refused(
        server.request("GET", target, headers=signed), 400, "InvalidArgument"
    )
    other = server.request("GET", f"{PROXY}/a%20b?b=3", headers=signed)
    assert_refused(other, 403, "SignatureNotMatch")


def test_a_body_of_several_megabytes_is_checked(server: Server) -> None:
    event = bytes(range(256)) * (3 * MB // 256)
    headers = acs3("POST", FC3, event, KEY)
    assert send(server, headers, event).body == event
    changed = event[:-1] + b"!"
    assert_refused(send(server, headers, changed), 403, "SignatureNotMatch")
    assert send(server, acs3("POST", FC3, b"next", KEY), b"next").body == b"next"


@pytest.mark.parametrize("sign", [acs3, fc2], ids=["FC 3.0", "FC 2.0"])
class TestWhatDoesNotOpen:
    def signed(
        self, sign: object, key: tuple[str, str], at: float
    ) -> tuple[str, dict[str, str]]:
        if sign is acs3:
            return FC3, acs3("POST", FC3, b"hi", key, at=at)
        return FC2, fc2("POST", FC2, key, at=at)

    def test_a_wrong_secret_does_not_match(self, server: Server, sign: object) -> None:
        path, headers = self.signed(sign, (KEY[0], "wrong"), time.time())
        assert_refused(send(server, headers, path=path), 403, "SignatureNotMatch")

    def test_an_unknown_id_is_told_so(self, server: Server, sign: object) -> None:
        path, headers = self.signed(sign, ("LTAIother", KEY[1]), time.time())
        assert_refused(send(server, headers, path=path), 403, "InvalidAccessKeyID")

    @pytest.mark.parametrize("minutes", [-16, 16])
    def test_an_old_date_is_refused(
        self, server: Server, sign: object, minutes: int
    ) -> None:
        path, headers = self.signed(sign, KEY, time.time() + minutes * 60)
        assert_refused(send(server, headers, path=path), 403, "AccessDenied")

    @pytest.mark.parametrize("minutes", [-14, 14])
    def test_a_date_a_little_off_is_not(
        self, server: Server, sign: object, minutes: int
    ) -> None:
        path, headers = self.signed(sign, KEY, time.time() + minutes * 60)
        assert send(server, headers, path=path).body == b"hi"

    def test_another_path_does_not_match(self, server: Server, sign: object) -> None:
        path, headers = self.signed(sign, KEY, time.time())
        other = path.replace("/fn/", "/other/")
        assert_refused(send(server, headers, path=other), 403, "SignatureNotMatch")


def test_no_signature_is_a_missing_header(server: Server) -> None:
    assert_refused(send(server, {}), 400, "MissingRequiredHeader")


@pytest.mark.parametrize("name", ["x-acs-date", "x-acs-content-sha256"])
def test_what_must_be_signed_must_be_there(server: Server, name: str) -> None:
    headers = acs3("POST", FC3, b"hi", KEY)
    del headers[name]
    assert_refused(send(server, headers), 400, "MissingRequiredHeader")


@pytest.mark.parametrize("name", ["x-acs-date", "x-acs-content-sha256"])
def test_a_signature_that_leaves_out_what_must_be_in_it_is_refused(
    server: Server, name: str
) -> None:
    headers = acs3("POST", FC3, b"hi", KEY, unsigned=name)
    assert_refused(send(server, headers), 403, "SignatureNotMatch")
    # Others may be left out.
    headers = acs3("POST", FC3, b"hi", KEY, unsigned="x-acs-action")
    assert send(server, headers).body == b"hi"


def test_a_signed_header_that_was_changed_does_not_match(server: Server) -> None:
    headers = acs3("POST", FC3, b"hi", KEY, {"x-fc-invocation-type": "Sync"})
    headers["x-fc-invocation-type"] = "Async"
    assert_refused(send(server, headers), 403, "SignatureNotMatch")


@pytest.mark.parametrize(
    "authorization", ["Basic eDp5", "ACS3-HMAC-SHA256 nonsense", "FC", "FC  ", "FC :"]
)
def test_nonsense_is_refused_and_nothing_breaks(
    server: Server, authorization: str
) -> None:
    reply = send(server, {"Authorization": authorization})
    assert reply.status in (400, 403)
    assert reply.json()["Code"] in ("AccessDenied", "InvalidAccessKeyID")


def test_who_is_not_known_does_not_learn_which_functions_there_are(
    server: Server,
) -> None:
    reply = send(server, {}, path="/2023-03-30/functions/none/invocations")
    assert_refused(reply, 400, "MissingRequiredHeader")


def test_the_secret_is_nowhere_a_function_could_find_it(server: Server) -> None:
    headers = acs3("POST", FC3, b"environment", KEY)
    seen = send(server, headers, b"environment").body
    seen += send(server, acs3("POST", FC3, b"context", KEY), b"context").body
    assert b"PATH" in seen
    assert KEY[1].encode() not in seen
    for process in (server.zygote, *server.front_end.children(recursive=True)):
        assert KEY[1] not in " ".join([*process.cmdline(), *process.environ().values()])


def test_the_secret_is_not_on_the_command_line_that_others_see(server: Server) -> None:
    assert KEY[1] not in " ".join(server.front_end.cmdline())


def test_without_a_key_signatures_are_not_looked_at() -> None:
    with Server("called.handler", "--gateway") as server:
        wrong = acs3("POST", FC3, b"other", ("a", "b"), at=0)
        assert send(server, wrong).body == b"hi"
