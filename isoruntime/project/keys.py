"""What a function's `props` may hold: the names, types and limits of `component: fc3`.

Written from the documented limits (fc-contract.md 5.3, ecosystem.md 1.2). A test
compares it with the component's own schema, which knows the same names but lets a
misspelt one pass, and does not know all of the limits.
"""

from __future__ import annotations

from isoruntime.project.images import BUILT_IN, CUSTOM
from isoruntime.project.shapes import (
    Either,
    Keys,
    ListOf,
    MapOf,
    Number,
    OneOf,
    Shape,
    Switched,
    Text,
    Truth,
)
from isoruntime.typed import Final

_text: Final = Text()
_texts: Final = ListOf(_text)
_number: Final = Number()
_truth: Final = Truth()
_anything: Final = Shape()
_auto: Final = OneOf("auto")


def _named(*names: str) -> dict[str, Shape]:
    """Return keys that all hold text."""
    return dict.fromkeys(names, _text)


#: The runtimes that run in a container's image of one's own.
CONTAINERS: Final = ("custom-container", "micro-sandbox")
#: In seconds; the platform's own limits.
LONGEST_TIMEOUT: Final = 86400
LONGEST_INITIALIZER: Final = 300
LONGEST_PRE_STOP: Final = 90

_REGION: Final = OneOf(
    *("ap-northeast-1", "ap-northeast-2", "ap-south-1", "ap-southeast-1"),
    *("ap-southeast-2", "ap-southeast-3", "ap-southeast-5", "ap-southeast-7"),
    *("cn-beijing", "cn-chengdu", "cn-hangzhou", "cn-heyuan-acdr-1", "cn-hongkong"),
    *("cn-huhehaote", "cn-qingdao", "cn-shanghai", "cn-shanghai-cloudspe"),
    *("cn-shanghai-finance-1", "cn-shenzhen", "cn-wulanchabu", "cn-zhangjiakou"),
    *("eu-central-1", "eu-west-1", "me-central-1", "us-east-1", "us-west-1"),
    is_closed=False,
)
_RUNTIME: Final = OneOf(
    *CUSTOM,
    *CONTAINERS,
    *BUILT_IN,
    *("python3", "python2.7"),
    *(f"nodejs{version}" for version in (20, 18, 16, 14, 12, 10, 8)),
    *("java11", "java8", "go1", "php7.2", "dotnetcore3.1", "dotnetcore2.1"),
)

_HEALTH_CHECK: Final = Keys(
    {
        "httpGetUrl": Text(2048),
        "initialDelaySeconds": Number(0, 120),
        "periodSeconds": Number(1, 120),
        "timeoutSeconds": Number(1, 3),
        "failureThreshold": Number(1, 120),
        "successThreshold": Number(1, 120),
    }
)
_CUSTOM_RUNTIME: Final = Keys(
    {
        "command": _texts,
        "args": _texts,
        "port": Number(1, 65535, is_whole=True),
        "healthCheckConfig": _HEALTH_CHECK,
    }
)
_REGISTRY: Final = Keys(
    {
        "authConfig": Keys(_named("userName", "password")),
        "certConfig": Keys({"insecure": _truth, "rootCaCertBase64": _text}),
        "networkConfig": Keys(_named("vpcId", "vSwitchId", "securityGroupId")),
    }
)
_CUSTOM_CONTAINER: Final = Keys(
    {
        "image": _text,
        "command": _texts,
        "entrypoint": _texts,
        "port": Number(1, 65535, is_whole=True),
        "healthCheckConfig": _HEALTH_CHECK,
        "registryConfig": _REGISTRY,
    }
)


def _hook(longest_s: int) -> Keys:
    return Keys({"handler": _text, "command": _texts, "timeout": Number(1, longest_s)})


_LIFECYCLE: Final = Keys(
    {
        "initializer": _hook(LONGEST_INITIALIZER),
        "preStop": _hook(LONGEST_PRE_STOP),
    }
)
_DESTINATION: Final = Keys({"destination": _text})
_ASYNC: Final = Keys(
    {
        "asyncTask": _truth,
        "destinationConfig": Keys(
            {"onSuccess": _DESTINATION, "onFailure": _DESTINATION}
        ),
        "maxAsyncEventAgeInSeconds": Number(1, 2592000),
        "maxAsyncRetryAttempts": Number(0, 8),
        "qualifier": _text,
    }
)
_VPC: Final = Keys(
    {
        "vpcId": _text,
        "securityGroupId": _text,
        "vSwitchIds": Either(_texts, _auto),
    },
    required=("vpcId", "securityGroupId", "vSwitchIds"),
)
_NAS: Final = Keys(
    {
        "userId": _number,
        "groupId": _number,
        "mountPoints": ListOf(
            Keys(
                {"serverAddr": _text, "mountDir": _text, "enableTLS": _truth},
                required=("serverAddr", "mountDir"),
            ),
            most=5,
        ),
    },
    required=("userId", "groupId", "mountPoints"),
)
_OSS_MOUNT: Final = Keys(
    {
        "mountPoints": ListOf(
            Keys(
                {
                    **_named("bucketName", "bucketPath", "endpoint", "mountDir"),
                    "readOnly": _truth,
                },
                required=("bucketName", "endpoint", "mountDir"),
            ),
            most=5,
        )
    },
    required=("mountPoints",),
)
_LOG: Final = Keys(
    {
        **_named("project", "logstore"),
        "enableInstanceMetrics": _truth,
        "enableRequestMetrics": _truth,
        "enableLlmMetrics": _truth,
        "logBeginRule": OneOf("None", "DefaultRegex"),
    },
    required=("project", "logstore"),
)
_SPAN: Final = _named("name", "startTime", "endTime", "timeZone")
_SCHEDULED: Final = {**_SPAN, "scheduleExpression": _text, "target": _number}
_PROVISION: Final = Keys(
    {
        "defaultTarget": _number,
        "alwaysAllocateCPU": _truth,
        "alwaysAllocateGPU": _truth,
        "scheduledActions": ListOf(Keys(_SCHEDULED, required=tuple(_SCHEDULED))),
        "targetTrackingPolicies": ListOf(
            Keys(
                {
                    **_SPAN,
                    "metricType": _text,
                    "metricTarget": _number,
                    "minCapacity": _number,
                    "maxCapacity": _number,
                },
                required=(
                    *_SPAN,
                    *("metricType", "metricTarget", "minCapacity", "maxCapacity"),
                ),
            )
        ),
    },
    required=(
        *("defaultTarget", "alwaysAllocateCPU", "alwaysAllocateGPU"),
        *("scheduledActions", "targetTrackingPolicies"),
    ),
)
_SCALING: Final = Keys(
    {
        "minInstances": _number,
        "residentPoolId": _text,
        "scheduledPolicies": ListOf(Keys(_SCHEDULED)),
        "horizontalScalingPolicies": ListOf(
            Keys(
                {
                    **_SPAN,
                    "metricType": _text,
                    "metricTarget": _number,
                    "minInstances": _number,
                    "maxInstances": _number,
                }
            )
        ),
    }
)

_CLAIMS: Final = Keys(
    {
        **_named("claimName", "mappingParameterName"),
        "mappingParameterPosition": OneOf("header", "cookie", "form"),
    },
    required=("mappingParameterName", "mappingParameterPosition"),
)
_LOOKUP: Final = Keys(
    {
        **_named("parameterName", "prefix"),
        "readPosition": OneOf("header", "cookie", "form", "query"),
    },
    required=("parameterName", "readPosition"),
)
_KEY: Final = Keys(
    _named("alg", "e", "kid", "kty", "n", "use"),
    required=("alg", "e", "kty", "n", "use"),
)
_HTTP: Final = Keys(
    {
        "authType": OneOf("anonymous", "function", "jwt"),
        "methods": ListOf(
            OneOf("GET", "POST", "PUT", "DELETE", "HEAD", "PATCH", "OPTIONS")
        ),
        "disableURLInternet": _truth,
        "authConfig": Keys(
            {
                "jwks": Keys({"keys": ListOf(_KEY, 1, 1)}, required=("keys",)),
                "tokenLookup": Either(ListOf(_LOOKUP, 1, 1), _text),
                "claimPassBy": Either(ListOf(_CLAIMS, 1, 1), _text),
                "blacklist": _texts,
                "whitelist": _texts,
            },
            required=("jwks", "tokenLookup"),
        ),
    },
    required=("authType", "methods"),
)
_CREATED: Final = (
    *("*", "PutObject", "PostObject", "CopyObject", "AppendObject", "PutSymlink"),
    *("InitiateMultipartUpload", "UploadPart", "UploadPartCopy"),
    "CompleteMultipartUpload",
)
_REMOVED: Final = ("DeleteObject", "DeleteObjects", "AbortMultipartUpload")
_OSS: Final = Keys(
    {
        "events": ListOf(
            OneOf(
                *(f"oss:ObjectCreated:{event}" for event in _CREATED),
                *(f"oss:ObjectRemoved:{event}" for event in _REMOVED),
                "oss:ObjectModified:UpdateObjectMeta",
            )
        ),
        "filter": Keys(
            {"key": Keys(_named("prefix", "suffix"), required=("prefix", "suffix"))},
            required=("key",),
        ),
    },
    required=("events", "filter"),
)
_SLS: Final = Keys(
    {
        "enable": _truth,
        "functionParameter": MapOf(_anything),
        "jobConfig": Keys(_named("maxRetryTime", "triggerInterval")),
        "logConfig": Keys(
            _named("project", "logstore"), required=("project", "logstore")
        ),
        "sourceConfig": Keys(_named("logstore"), required=("logstore",)),
    },
    required=("enable", "jobConfig", "logConfig", "sourceConfig"),
)
_TIMER: Final = Keys(
    {"cronExpression": _text, "enable": _truth, "payload": _text},
    required=("cronExpression", "enable"),
)
_MNS: Final = Keys(
    {
        "filterTag": _text,
        "notifyContentFormat": OneOf("STREAM", "JSON"),
        "notifyStrategy": OneOf("BACKOFF_RETRY", "EXPONENTIAL_DECAY_RETRY"),
    },
    required=("notifyContentFormat", "notifyStrategy"),
)
_CDN: Final = Keys(
    {
        **_named("eventName", "eventVersion", "notes"),
        "filter": Keys({"domain": _texts}, required=("domain",)),
    },
    required=("eventName", "eventVersion", "filter", "notes"),
)
_EVENT_BRIDGE: Final = Keys(
    {
        "triggerEnable": _truth,
        "asyncInvocationType": _truth,
        "eventRuleFilterPattern": _text,
        "eventSourceConfig": Keys(
            {"eventSourceType": _text, "eventSourceParameters": MapOf(_anything)},
            required=("eventSourceType", "eventSourceParameters"),
        ),
        "eventSinkConfig": Keys(
            {"deliveryOption": MapOf(_anything)}, required=("deliveryOption",)
        ),
        "runOptions": MapOf(_anything),
    },
    required=(
        *("triggerEnable", "asyncInvocationType", "eventRuleFilterPattern"),
        *("eventSourceConfig", "eventSinkConfig", "runOptions"),
    ),
)
#: What `triggerConfig` holds, by `triggerType`.
TRIGGERS: Final[dict[str, Shape]] = {
    "http": _HTTP,
    "timer": _TIMER,
    "oss": _OSS,
    "log": _SLS,
    "mns_topic": _MNS,
    "cdn_events": _CDN,
    "tablestore": MapOf(_anything),
    "eventbridge": _EVENT_BRIDGE,
}
_TRIGGER: Final = Switched(
    Keys(
        {
            **_named("triggerName", "description", "qualifier"),
            **_named("invocationRole", "sourceArn"),
            "triggerType": OneOf(*TRIGGERS),
            "triggerConfig": _anything,
        },
        required=("triggerName", "triggerType", "triggerConfig"),
    ),
    "triggerType",
    "triggerConfig",
    TRIGGERS,
)

#: What `props` of a function holds.
PROPS: Final = Keys(
    {
        "annotations": Keys({"headers": MapOf(_text)}),
        "asyncInvokeConfig": _ASYNC,
        "code": Either(
            _text,
            Keys(
                _named("ossBucketName", "ossObjectName", "src"),
                required=("ossBucketName", "ossObjectName", "src"),
            ),
        ),
        "concurrencyConfig": Keys(
            {"reservedConcurrency": _number}, required=("reservedConcurrency",)
        ),
        "cpu": Number(0.05, 16),
        "customContainerConfig": _CUSTOM_CONTAINER,
        "customDNS": Keys(
            {
                "dnsOptions": ListOf(
                    Keys(_named("name", "value"), required=("name", "value"))
                ),
                "nameServers": _texts,
                "searches": _texts,
            }
        ),
        "customRuntimeConfig": _CUSTOM_RUNTIME,
        "diskSize": OneOf(512, 10240),
        "enableLongLiving": _truth,
        "environmentVariables": MapOf(_text),
        "gpuConfig": Keys(
            {
                "gpuMemorySize": Number(1024, 24576, step=1024),
                "gpuType": OneOf("fc.gpu.tesla.1", "fc.gpu.ampere.1", is_closed=False),
            }
        ),
        "instanceConcurrency": Number(1, 200, is_whole=True),
        "instanceLifecycleConfig": _LIFECYCLE,
        "internetAccess": _truth,
        "layers": _texts,
        "logConfig": Either(_auto, _LOG),
        "memorySize": Number(128, 32768, step=64, is_whole=True),
        "nasConfig": Either(_auto, _NAS),
        "ossMountConfig": Either(_auto, _OSS_MOUNT),
        "provisionConfig": _PROVISION,
        "region": _REGION,
        "runtime": _RUNTIME,
        "scalingConfig": _SCALING,
        "sessionAffinityConfig": Either(
            Keys(
                {
                    **_named("affinityHeaderFieldName", "sseEndpointPath"),
                    "sessionConcurrencyPerInstance": _number,
                    "sessionIdleTimeoutInSeconds": _number,
                    "sessionTTLInSeconds": _number,
                }
            ),
            _text,
        ),
        "supplement": _anything,
        "tags": ListOf(Keys(_named("key", "value"), required=("key", "value"))),
        "timeout": Number(1, LONGEST_TIMEOUT, is_whole=True),
        "tracingConfig": Keys(
            {
                **_named("type", "params"),
                "jaegerConfig": Keys(_named("endpoint"), required=("endpoint",)),
            }
        ),
        "triggers": ListOf(_TRIGGER, most=50),
        "vpcBinding": Keys({"vpcIds": _texts}, required=("vpcIds",)),
        "vpcConfig": Either(_auto, _VPC),
        **_named("description", "endpoint", "functionName", "handler"),
        **_named("instanceIsolationMode", "resourceGroupId", "role"),
        "sessionAffinity": _text,
    },
    required=("functionName", "region", "runtime"),
)

#: Keys beside `props`, and at the top.
RESOURCE: Final = ("component", "props", "access", "actions", "extend")
TOP: Final = (
    *("edition", "name", "access", "vars", "resources", "template"),
    *("actions", "extend", "flow"),
)

#: Names of FC 2.0 and its tools, and where the same is said now.
RENAMED: Final = {
    "codeUri": "code",
    "caPort": "customRuntimeConfig.port",
    "preFreeze": "preStop (FC 3.0 calls no PreFreeze hook)",
    "initializer": "instanceLifecycleConfig.initializer",
    "initializationTimeout": "instanceLifecycleConfig.initializer.timeout",
    "serviceName": "functionName (there are no services any more)",
    "name": "functionName",
}
#: Likewise, within a trigger.
RENAMED_IN_TRIGGERS: Final = {
    "name": "triggerName",
    "type": "triggerType",
    "config": "triggerConfig",
    "role": "invocationRole",
}
