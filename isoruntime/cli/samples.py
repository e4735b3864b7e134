"""Sample events, in the form in which the platform's triggers send them.

The form is that of the public documentation of each trigger; every value is made up.
"""

from __future__ import annotations

from isoruntime.typed import Any, Final, NamedTuple

_REGION: Final = "cn-hangzhou"
#: A user id of the length that real ones have.
_ACCOUNT: Final = "1234567890123456"
_HOST: Final = "www.example.com"
_TRACE: Final = "6f1c1f3a-8f2b-4a57-9d57-2b7c4f1c9e10"


class Sample(NamedTuple):
    """One kind of event."""

    #: when it is sent
    occasion: str
    event: dict[str, Any]
    #: what of it is otherwise on the platform
    note: str = ""


SAMPLES: Final[dict[str, Sample]] = {
    "oss": Sample(
        "an object was stored in a bucket",
        {
            "events": [
                {
                    "eventName": "ObjectCreated:PutObject",
                    "eventSource": "acs:oss",
                    "eventTime": "2026-01-15T08:30:00.000Z",
                    "eventVersion": "1.0",
                    "oss": {
                        "bucket": {
                            "arn": f"acs:oss:{_REGION}:{_ACCOUNT}:my-bucket",
                            "name": "my-bucket",
                            "ownerIdentity": _ACCOUNT,
                            "virtualBucket": "",
                        },
                        "object": {
                            "deltaSize": 20480,
                            "eTag": "0123456789ABCDEF0123456789ABCDEF",
                            "key": "photos/cat.jpg",
                            "size": 20480,
                        },
                        "ossSchemaVersion": "1.0",
                        "ruleId": "0123456789abcdef0123456789abcdef01234567",
                    },
                    "region": _REGION,
                    "requestParameters": {"sourceIPAddress": "192.0.2.10"},
                    "responseElements": {"requestId": "0123456789ABCDEF01234567"},
                    "userIdentity": {"principalId": _ACCOUNT},
                }
            ]
        },
    ),
    "sls": Sample(
        "lines came into a log store; the event says where, not what",
        {
            "parameter": {},
            "source": {
                "endpoint": f"http://{_REGION}-intranet.log.aliyuncs.com",
                "projectName": "my-project",
                "logstoreName": "my-logstore",
                "shardId": 0,
                "beginCursor": "MTc2ODQ2NTgwMDAwMDAwMDAwMA==",
                "endCursor": "MTc2ODQ2NTgwMDAwMDAwMDA2NA==",
            },
            "jobName": "89abcdef0123456789abcdef0123456789abcdef",
            "taskId": "2d9a7c34-5b1e-4c8f-a2d6-70e1b3f48c55",
            "cursorTime": 1768465800,
        },
    ),
    "timer": Sample(
        "a point in time was reached; payload is the text given to the trigger",
        {
            "triggerTime": "2026-01-15T08:30:00Z",
            "triggerName": "my-timer",
            "payload": "",
        },
    ),
    "http": Sample(
        "somebody called the function's address",
        {
            "version": "v1",
            "rawPath": "/orders/42",
            "body": '{"key": "value"}',
            "isBase64Encoded": False,
            "headers": {
                "Accept": "application/json",
                "Content-Type": "application/json",
                "Host": "my-function.cn-hangzhou.fcapp.run",
                "User-Agent": "curl/8.5.0",
            },
            "queryParameters": {"verbose": "true"},
            "requestContext": {
                "accountId": _ACCOUNT,
                "domainName": "my-function.cn-hangzhou.fcapp.run",
                "domainPrefix": "my-function",
                "http": {
                    "method": "POST",
                    "path": "/orders/42",
                    "protocol": "HTTP/1.1",
                    "sourceIp": "192.0.2.10",
                    "userAgent": "curl/8.5.0",
                },
                "requestId": "1-69689c58-1a2b3c4d-5e6f708192a3",
                "time": "2026-01-15T08:30:00Z",
                "timeEpoch": "1768465800000",
            },
        },
        "a custom runtime gets the request itself, only built-in ones get this event",
    ),
    "mns": Sample(
        "a message was published to a topic, with the format JSON",
        {
            "TopicOwner": _ACCOUNT,
            "Message": "hello",
            "Subscriber": _ACCOUNT,
            "PublishTime": 1768465800000,
            "SubscriptionName": "my-subscription",
            "MessageMD5": "5D41402ABC4B2A76B9719D911017C592",
            "TopicName": "my-topic",
            "MessageId": "0123456789ABCDEF0123456789ABCDEF",
        },
    ),
    "tablestore": Sample(
        "a row of a table was written",
        {
            "Version": "Sync-v1",
            "Records": [
                {
                    "Type": "PutRow",
                    "Info": {"Timestamp": 1768465800000000},
                    "PrimaryKey": [
                        {"ColumnName": "order", "Value": 42},
                    ],
                    "Columns": [
                        {
                            "Type": "Put",
                            "ColumnName": "state",
                            "Value": "paid",
                            "Timestamp": 1768465800000,
                        },
                    ],
                }
            ],
        },
        "the platform sends it as CBOR, not as JSON",
    ),
    "cdn": Sample(
        "objects in the cache of a domain were renewed",
        {
            "events": [
                {
                    "eventName": "CachedObjectsRefreshed",
                    "eventVersion": "1.0.0",
                    "eventSource": "cdn",
                    "region": _REGION,
                    "eventTime": "2026-01-15T16:30:00+08:00",
                    "traceId": _TRACE,
                    "resource": {"domain": _HOST},
                    "eventParameter": {
                        "objectPath": ["/photos/cat.jpg", "/photos/dog.jpg"],
                        "createTime": 1768465740,
                        "domain": _HOST,
                        "completeTime": 1768465800,
                        "objectType": "File",
                        "taskId": 1234567890,
                    },
                    "userIdentity": {"aliUid": _ACCOUNT},
                }
            ]
        },
    ),
}
