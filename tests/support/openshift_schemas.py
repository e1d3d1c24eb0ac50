"""What OpenShift's own kinds must and may have, of the fields that the templates use.

`kubernetes-validate` knows Kubernetes' kinds only. Each schema here is closed: a field that is not
listed is an error, so a misspelt one cannot slip through. Written after the API reference of
OpenShift 4 (`Template`, `Route`, `BuildConfig`, `ImageStream`), and compared with the OpenAPI document of
openshift/api of August 2026.
"""

from typing import Any

Schema = dict[str, Any]

TEXT: Schema = {"type": "string", "minLength": 1}


def closed(required: list[str], **properties: Any) -> Schema:
    return {
        "type": "object",
        "required": required,
        "properties": properties,
        "additionalProperties": False,
    }


METADATA = closed(
    ["name", "namespace", "labels"],
    name={"type": "string", "pattern": "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"},
    namespace=TEXT,
    labels={"type": "object", "additionalProperties": TEXT},
    annotations={"type": "object", "additionalProperties": {"type": "string"}},
)


def kind(name: str, group: str, spec: Schema) -> Schema:
    return closed(
        ["apiVersion", "kind", "metadata", "spec"],
        apiVersion={"const": f"{group}/v1"},
        kind={"const": name},
        metadata=METADATA,
        spec=spec,
    )


IMAGE_STREAM_TAG = closed(
    ["kind", "name"],
    kind={"const": "ImageStreamTag"},
    name={"type": "string", "pattern": "^[^:]+:[^:]+$"},
    namespace=TEXT,
)

SCHEMAS: dict[str, Schema] = {
    "Route": kind(
        "Route",
        "route.openshift.io",
        closed(
            ["to"],
            host={"type": "string"},
            to=closed(
                ["kind", "name"], kind={"const": "Service"}, name=TEXT, weight={"type": "integer"}
            ),
            port=closed(["targetPort"], targetPort={"type": ["string", "integer"]}),
            tls=closed(
                ["termination"],
                termination={"enum": ["edge", "passthrough", "reencrypt"]},
                insecureEdgeTerminationPolicy={"enum": ["None", "Allow", "Redirect"]},
            ),
            wildcardPolicy={"enum": ["None", "Subdomain"]},
        ),
    ),
    "ImageStream": kind(
        "ImageStream",
        "image.openshift.io",
        closed([], lookupPolicy=closed(["local"], local={"type": "boolean"})),
    ),
    "BuildConfig": kind(
        "BuildConfig",
        "build.openshift.io",
        closed(
            ["source", "strategy", "output"],
            source=closed(
                ["type", "git"],
                type={"const": "Git"},
                git=closed(["uri"], uri=TEXT, ref=TEXT),
                contextDir=TEXT,
                sourceSecret=closed(["name"], name=TEXT),
            ),
            strategy=closed(
                ["type", "dockerStrategy"],
                type={"const": "Docker"},
                dockerStrategy=closed(
                    [],
                    dockerfilePath=TEXT,
                    buildArgs={
                        "type": "array",
                        "items": closed(["name", "value"], name=TEXT, value=TEXT),
                    },
                ),
            ),
            output=closed(["to"], to=IMAGE_STREAM_TAG),
            triggers={"type": "array", "items": {"type": "object", "required": ["type"]}},
            runPolicy={"enum": ["Serial", "SerialLatestOnly", "Parallel"]},
            successfulBuildsHistoryLimit={"type": "integer", "minimum": 0},
            failedBuildsHistoryLimit={"type": "integer", "minimum": 0},
            resources=closed(
                [],
                requests={"type": "object", "additionalProperties": TEXT},
                limits={"type": "object", "additionalProperties": TEXT},
            ),
        ),
    ),
}

TRIGGERS: Schema = {
    "type": "array",
    "minItems": 1,
    "items": closed(
        ["from", "fieldPath"],
        **{"from": IMAGE_STREAM_TAG},
        fieldPath={
            "type": "string",
            "pattern": r'^spec\.template\.spec\.containers\[\?\(@\.name=="[a-z0-9-]+"\)\]\.image$',
        },
        paused={"type": "boolean"},
    ),
}

TEMPLATE = closed(
    ["apiVersion", "kind", "metadata", "message", "labels", "objects", "parameters"],
    apiVersion={"const": "template.openshift.io/v1"},
    kind={"const": "Template"},
    metadata=closed(
        ["name", "annotations"],
        name=TEXT,
        annotations={"type": "object", "additionalProperties": TEXT},
    ),
    message=TEXT,
    labels={"type": "object", "additionalProperties": TEXT},
    objects={"type": "array", "minItems": 1, "items": {"type": "object"}},
    parameters={
        "type": "array",
        "items": {
            "type": "object",
            "required": ["name", "displayName", "description"],
            "properties": {
                "name": {"type": "string", "pattern": "^[A-Z0-9_]+$"},
                "displayName": TEXT,
                "description": TEXT,
                "value": {"type": "string"},
                "generate": {"const": "expression"},
                "from": TEXT,
                "required": {"type": "boolean"},
            },
            "additionalProperties": False,
        },
    },
)
