"""`oc process --local`, in Python: what a template becomes, by the rules of OpenShift's own processor.

Those rules are in library-go's `pkg/template`: `${NAME}` is replaced inside any string, an unknown
name is left as it stands, `${{NAME}}` as a whole string becomes the JSON value, and a namespace that
is not a parameter is taken away.
"""

import json
import random
import re
import string
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

STRING = re.compile(r"\$\{([a-zA-Z0-9_]+?)\}")
NOT_STRING = re.compile(r"^\$\{\{([a-zA-Z0-9_]+)\}\}$")
EXPRESSION = re.compile(r"\[([^\]]+)\]\{(\d+)\}")
MAX_GENERATED = 255
# The one in C, where it was built, is ten times as fast.
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

Object = dict[str, Any]


class TemplateError(Exception):
    """The template, or what was given for its parameters, would be refused."""


def read_template(file: Path) -> Object:
    template = yaml.load(file.read_text(), LOADER)
    if (template.get("apiVersion"), template.get("kind")) != (
        "template.openshift.io/v1",
        "Template",
    ):
        raise TemplateError(f"{file.name} is not a template of template.openshift.io/v1")
    return dict(template)


def process(file: Path, given: Mapping[str, str]) -> list[Object]:
    """Return the template's objects, with its parameters filled in."""
    template = read_template(file)
    values = _values(template, given)
    labels = {key: _replace(value, values) for key, value in template.get("labels", {}).items()}
    objects = []
    for item in template["objects"]:
        if not STRING.search(item["metadata"].get("namespace", "")):
            item["metadata"].pop("namespace", None)
        made = _replace(item, values)
        made["metadata"].setdefault("labels", {}).update(labels)
        objects.append(made)
    return objects


def _values(template: Object, given: Mapping[str, str]) -> dict[str, str]:
    names = {parameter["name"] for parameter in template["parameters"]}
    unknown = sorted(set(given) - names)
    if unknown:
        raise TemplateError(f'unknown parameter name "{unknown[0]}"')
    values = {}
    for parameter in template["parameters"]:
        name = parameter["name"]
        value = given.get(name, parameter.get("value", ""))
        if not value and parameter.get("generate"):
            value = _generate(parameter)
        if not value and parameter.get("required"):
            raise TemplateError(f"parameter {name} is required and must be specified")
        values[name] = value
    return values


def _generate(parameter: Object) -> str:
    if parameter["generate"] != "expression":
        raise TemplateError(f"unknown generator {parameter['generate']!r}")

    def draw(match: re.Match[str]) -> str:
        alphabet = _alphabet(match[1])
        if not 0 < int(match[2]) <= MAX_GENERATED:
            raise TemplateError(f"{match[0]} is not from 1 to {MAX_GENERATED} long")
        return "".join(random.choices(alphabet, k=int(match[2])))

    return EXPRESSION.sub(draw, parameter["from"])


def _alphabet(ranges: str) -> str:
    """The characters of `a-zA-Z0-9`, `\\w`, `\\d`, `\\a` and `\\A`, as the generator knows them."""
    named = {
        r"\w": string.ascii_letters + string.digits + "_",
        r"\d": string.digits,
        r"\a": string.ascii_letters + string.digits,
        r"\A": "~!@#$%^&*()-_+={}[]\\|<,>.?/\"';:`",
    }
    found = ""
    for piece in re.findall(r"\\[wdaA]|.-.", ranges):
        if piece in named:
            found += named[piece]
        else:
            found += "".join(chr(code) for code in range(ord(piece[0]), ord(piece[2]) + 1))
    if not found:
        raise TemplateError(f"malformed range [{ranges}]")
    return found


def _replace(value: Any, values: Mapping[str, str]) -> Any:
    match value:
        case str():
            return _replace_text(value, values)
        case dict():
            return {_replace_text(k, values): _replace(v, values) for k, v in value.items()}
        case list():
            return [_replace(item, values) for item in value]
    return value


def _replace_text(text: str, values: Mapping[str, str]) -> Any:
    whole = NOT_STRING.match(text)
    if whole and whole[1] in values:
        try:
            return json.loads(values[whole[1]])
        except ValueError:
            raise TemplateError(f"{text} is not a JSON value: {values[whole[1]]!r}") from None
    return STRING.sub(lambda match: values.get(match[1], match[0]), text)
