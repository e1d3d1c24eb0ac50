"""Whether a cluster would take an object: every field known, of the right type, and none missing."""

import json

import jsonschema
import kubernetes_validate
from kubernetes_validate import latest_version

from tests.support import keda_schemas, openshift_schemas
from tests.support.oc_process import STRING, Object

# The Kubernetes in the oldest OpenShift that still gets updates (4.16), those that the project
# supports itself as far as they are known, and the newest known.
KUBERNETES = ("1.29", "1.31", "1.34", "1.35", "1.36", latest_version())
OTHERS = {**openshift_schemas.SCHEMAS, **keda_schemas.SCHEMAS}


def assert_valid(item: Object) -> None:
    assert not STRING.search(json.dumps(item)), "a placeholder is left"
    if item["kind"] in OTHERS:
        jsonschema.validate(item, OTHERS[item["kind"]])
        return
    for version in KUBERNETES:
        kubernetes_validate.validate(item, version, strict=True)
