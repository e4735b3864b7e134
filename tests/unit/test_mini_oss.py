"""The local OSS is as strict as the real one, seen through the real client."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.mini_oss import MAX_CLOCK_SKEW_S, MiniOss, Refused, Request, crc64

oss2 = pytest.importorskip("oss2", reason="the OSS sample needs the oss2 package")

KEY, SECRET, TOKEN = "STS.key", "secret", "token"


@pytest.fixture
def oss() -> Iterator[MiniOss]:
    with MiniOss(KEY, SECRET, TOKEN).serving() as service:
        yield service


def bucket(oss: MiniOss, auth: object, **options: str) -> Any:
    return oss2.Bucket(auth, oss.endpoint, "my-bucket", **options)


def put(oss: MiniOss, auth: object) -> None:
    made = bucket(oss, auth)
    try:
        made.put_object("note.txt", b"content")
    finally:
        made.session.session.close()


def test_the_checksum_is_the_one_the_service_documents() -> None:
    assert crc64(b"123456789") == 11051210869376104954


@pytest.mark.parametrize("version", ["v1", "v4"])
@pytest.mark.parametrize("name", ["oss-test-object", "目录/对象 1.txt"])
def test_an_object_is_stored_read_and_deleted(
    oss: MiniOss, version: str, name: str
) -> None:
    auth = oss2.StsAuth(KEY, SECRET, TOKEN, auth_version=version)
    made = bucket(oss, auth, region="cn-shenzhen")

    made.put_object(name, "内容")
    assert oss.objects == {("my-bucket", name): "内容".encode()}
    assert made.get_object(name).read() == "内容".encode()
    assert made.head_object(name).content_length == 6

    made.delete_object(name)
    with pytest.raises(oss2.exceptions.NoSuchKey):
        made.get_object(name)
    made.session.session.close()


@pytest.mark.parametrize("version", ["v1", "v4"])
def test_a_wrong_secret_is_refused(oss: MiniOss, version: str) -> None:
    auth = oss2.StsAuth(KEY, "another secret", TOKEN, auth_version=version)
    made = bucket(oss, auth, region="cn-shenzhen")
    with pytest.raises(oss2.exceptions.SignatureDoesNotMatch):
        made.put_object("note.txt", b"content")
    made.session.session.close()
    assert oss.objects == {}


def test_a_missing_token_is_refused(oss: MiniOss) -> None:
    with pytest.raises(oss2.exceptions.ServerError, match="InvalidAccessKeyId"):
        put(oss, oss2.Auth(KEY, SECRET))
    assert oss.objects == {}


def test_a_wrong_token_is_refused(oss: MiniOss) -> None:
    with pytest.raises(oss2.exceptions.ServerError, match="InvalidSecurityToken"):
        put(oss, oss2.StsAuth(KEY, SECRET, "another token"))
    assert oss.objects == {}


def test_an_unknown_key_is_refused(oss: MiniOss) -> None:
    with pytest.raises(oss2.exceptions.ServerError, match="InvalidAccessKeyId"):
        put(oss, oss2.StsAuth("STS.other", SECRET, TOKEN))
    assert oss.refusals == ["InvalidAccessKeyId"]


def test_an_anonymous_request_is_refused(oss: MiniOss) -> None:
    with pytest.raises(oss2.exceptions.AccessDenied):
        put(oss, oss2.AnonymousAuth())
    assert oss.objects == {}


def test_a_request_signed_long_ago_is_refused() -> None:
    then = time.gmtime(time.time() - MAX_CLOCK_SKEW_S - 60)
    date = time.strftime("%a, %d %b %Y %H:%M:%S GMT", then)
    request = Request("PUT", "/b/k", {"date": date, "authorization": "OSS a:b"}, b"")
    with pytest.raises(Refused) as refused:
        MiniOss().answer(request)
    assert refused.value.code == "RequestTimeTooSkewed"
