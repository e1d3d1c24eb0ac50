"""What KEDA's kinds must and may have, of the fields that are used here.

Closed, as those in `openshift_schemas.py`. Written after the reference of KEDA 2.18 (`ScaledObject`,
`TriggerAuthentication`, the scaler `metrics-api`) and compared with its custom resource definitions of
August 2026.
"""

from tests.support.openshift_schemas import METADATA, TEXT, Schema, closed

COUNT: Schema = {"type": "integer", "minimum": 0}

METRICS_API = closed(
    ["type", "name", "metricType", "authenticationRef", "metadata"],
    type={"const": "metrics-api"},
    name=TEXT,
    metricType={"enum": ["AverageValue", "Value"]},
    authenticationRef=closed(["name"], name=TEXT),
    metadata=closed(
        ["url", "valueLocation", "targetValue", "authMode"],
        url={"type": "string", "pattern": "^https?://"},
        valueLocation=TEXT,
        targetValue={"type": "string", "pattern": r"^\d+(\.\d+)?$"},
        authMode={"enum": ["apiKey", "basic", "tls", "bearer"]},
    ),
)

POLICY = closed(
    ["type", "value", "periodSeconds"],
    type={"enum": ["Pods", "Percent"]},
    value={"type": "integer", "minimum": 1},
    periodSeconds={"type": "integer", "minimum": 1, "maximum": 1800},
)
RULES = closed(
    [],
    stabilizationWindowSeconds={"type": "integer", "minimum": 0, "maximum": 3600},
    selectPolicy={"enum": ["Max", "Min", "Disabled"]},
    policies={"type": "array", "items": POLICY, "minItems": 1},
)


def kind(name: str, spec: Schema) -> Schema:
    return closed(
        ["apiVersion", "kind", "metadata", "spec"],
        apiVersion={"const": "keda.sh/v1alpha1"},
        kind={"const": name},
        metadata=METADATA,
        spec=spec,
    )


SCHEMAS: dict[str, Schema] = {
    "ScaledObject": kind(
        "ScaledObject",
        closed(
            ["scaleTargetRef", "triggers"],
            scaleTargetRef=closed(["name"], name=TEXT),
            pollingInterval=COUNT,
            minReplicaCount=COUNT,
            maxReplicaCount=COUNT,
            fallback=closed(
                ["failureThreshold", "replicas"],
                failureThreshold=COUNT,
                replicas=COUNT,
                behavior={
                    "enum": [
                        "static",
                        "currentReplicas",
                        "currentReplicasIfHigher",
                        "currentReplicasIfLower",
                    ]
                },
            ),
            advanced=closed(
                [],
                horizontalPodAutoscalerConfig=closed(
                    [], behavior=closed([], scaleUp=RULES, scaleDown=RULES)
                ),
            ),
            triggers={"type": "array", "minItems": 1, "items": METRICS_API},
        ),
    ),
    "TriggerAuthentication": kind(
        "TriggerAuthentication",
        closed(
            ["secretTargetRef"],
            secretTargetRef={
                "type": "array",
                "minItems": 1,
                "items": closed(["parameter", "name", "key"], parameter=TEXT, name=TEXT, key=TEXT),
            },
        ),
    ),
}
