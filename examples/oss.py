"""Store an object with the temporary credentials of the function's role.

Needs the `oss2` package. The event names the endpoint, the bucket, the object and
its content.
"""

import json

import oss2


def handler(event, context):
    evt = json.loads(event)
    creds = context.credentials
    # Temporary credentials are three values: without the token OSS refuses the other two.
    auth = oss2.StsAuth(
        creds.access_key_id, creds.access_key_secret, creds.security_token
    )
    bucket = oss2.Bucket(auth, evt["endpoint"], evt["bucket"])
    bucket.put_object(evt["objectName"], evt["message"])
    return "success"
