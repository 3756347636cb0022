"""What schemathesis has to be told: how bodies of a media type are written, and that what somebody put need not be of its type."""

import schemathesis
from schemathesis.core.media_types import YAML_MEDIA_TYPES

# What is given by these comes back as it was put, under the media type that was said then.
CONTENTS = {"/api/v1/buckets/{bucket}/keys/{key}", "/api/v1/objects/{id}"}


@schemathesis.serializer("application/offset+octet-stream")
def offset_octet_stream(ctx, value):
    if isinstance(value, bytes):
        return value
    return str(value).encode("utf-8", errors="replace")


@schemathesis.deserializer("text/plain", *YAML_MEDIA_TYPES)
def text(ctx, response):
    # The gateway says nothing else in these.
    return response.content.decode("utf-8", errors="replace")


@schemathesis.deserializer("application/json")
def json(ctx, response):
    if ctx.operation.path in CONTENTS and response.status_code in (200, 206):
        return text(ctx, response)
    return response.json()
