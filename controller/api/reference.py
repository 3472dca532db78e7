"""The reference page of the API, in Markdown, generated from the OpenAPI document."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator
from typing import Any

from controller.api.app import openapi
from controller.api.problems import TITLES, TYPE
from controller.api.v1 import RESOURCES

RESOURCE_SCHEMAS = ("BridgeOut", "SessionOut")
"""Shown with their own resource, and not again where another schema includes them."""

_REFERENCE = re.compile(r"#/components/schemas/(\w+)")

API_INTRODUCTION = """\
# API

JSON over HTTP, by default at http://127.0.0.1:9470; the OpenAPI 3.1 document of the running
controller is at `/openapi.json`. With `[api] token_file` every request under `/v1` carries
`Authorization: Bearer <token>`.

- Every place that takes an id takes a name. A name is unique inside a tenant: where several tenants
  have it, add `?tenant=`. In bodies `tenant` may be left out while there is only one.
- A list is `{"items": [...], "next": marker}`; `next` is null at the end, else the `marker` of the
  next page. `limit` is 1 to 1000. A list that is asked for by a name, an id or a word that nothing
  has is refused (404, 422) and says what was probably meant: an empty list is always an answer. A
  `name` with a `tenant` is one of that tenant. Entries of the audit log outlive what they are
  about: any name, id or `who` that an entry has may be asked for.
- `POST` and `PATCH` answer when the switches have confirmed the change, or after 10 seconds; the
  `status` of a session says what was verified, never what was hoped. `DELETE` of a session answers
  204 when its flows are removed from the switches, and 202 while a bridge cannot be reached: the
  session is then listed as `inactive` with the reason, and the controller finishes it later.
- A `POST` with an `Idempotency-Key` is carried out once: for 24 hours, and until the tenant has
  used 1,000 newer keys, the same request gets the same answer. An answer of more than 16 kB is not
  kept: the repetition shows the object as it is then.
- `?dry_run=true` on `POST` and `DELETE` of sessions answers what would be refused; nothing is
  changed.
- A request has limits: 16 kB for request line and header fields, 8 kB for path and query, 1 MB for
  a body (16 MB for filters), 64 keys in an object, 100,000 elements in a list, 256 KiB for a text,
  and 20 seconds to arrive. Whole numbers have at most 20 digits; `NaN`, keys that are given twice
  and halves of surrogate pairs are refused.
- `POST`, `PATCH` and `DELETE` wait for switches whose flows the request may change, no others.
- `/healthz` and `/readyz` need no token, and never wait for other requests.
- Unknown fields and parameters are refused, and so is every option that is not supported yet.
"""


def render() -> str:
    """The whole page."""
    document = openapi()
    schemas = document["components"]["schemas"]
    lines = [API_INTRODUCTION]
    for blueprint in RESOURCES:
        lines += _resource(blueprint.name, document, schemas)
    lines += [
        "## Problems",
        "",
        f"Errors are `application/problem+json` (RFC 9457): `type` (`{TYPE}` and a word of this",
        "table), `title`, `status`, `detail` (the sentence to read), `field` (the place in the",
        "request), and `errors` where there are several.",
        "",
        "| type | |",
        "|---|---|",
        *(f"| `{slug}` | {title} |" for slug, title in TITLES.items()),
    ]
    return "\n".join(lines) + "\n"


def _resource(name: str, document: dict[str, Any], schemas: dict[str, Any]) -> Iterator[str]:
    [about] = [tag["description"] for tag in document["tags"] if tag["name"] == name]
    yield from (f"## {name}", "", about, "")
    yield from ("| request | | parameters | body | answer |", "|---|---|---|---|---|")
    used: dict[str, None] = {}
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            if operation["tags"] == [name]:
                body = _schema_of(operation.get("requestBody", {}))
                answers = [
                    f"{status} {_code(_schema_of(answer))}".strip()
                    for status, answer in operation["responses"].items()
                    if status.startswith("2")
                ]
                used |= dict.fromkeys([body] if body else [])
                used |= dict.fromkeys(a.split("`")[1] for a in answers if "`" in a)
                given = operation.get("parameters", [])
                parameters = ", ".join(_code(p["name"]) for p in given if p["in"] == "query")
                yield (
                    f"| `{method.upper()} {path}` | {operation['summary']} "
                    f"| {parameters} | {_code(body)} | {', '.join(answers)} |"
                )
    yield ""
    for schema in _with_parts(used, schemas):
        if not schema.endswith("Page"):
            yield from _fields(schema, schemas)


def _with_parts(names: Collection[str], schemas: dict[str, Any]) -> Iterator[str]:
    """The schemas and those that they include, each once; pages of a list are not expanded."""
    waiting, seen = list(names), set(RESOURCE_SCHEMAS)
    while waiting:
        name = waiting.pop(0)
        if name in seen and name not in names:
            continue
        seen.add(name)
        yield name
        if not name.endswith("Page"):
            parts = _REFERENCE.findall(json.dumps(schemas[name]))
            waiting[:0] = [part for part in dict.fromkeys(parts) if part not in seen]


def _fields(name: str, schemas: dict[str, Any]) -> Iterator[str]:
    schema = schemas[name]
    needed = schema.get("required", []) if name.endswith("In") else []
    yield from (f"**{name}**: {schema['description']}", "", "| field | type | |", "|---|---|---|")
    for field, value in schema["properties"].items():
        notes = [value["description"]] if "description" in value else []
        notes += ["needed"] if field in needed else []
        yield f"| `{field}` | {_type(value)} | {' '.join(notes)} |"
    yield ""


def _schema_of(content: dict[str, Any]) -> str:
    schema = content.get("content", {}).get("application/json", {}).get("schema", {})
    return str(schema.get("$ref", "")).rpartition("/")[2]


def _type(value: dict[str, Any]) -> str:
    match value:
        case {"$ref": ref}:
            return str(ref).rpartition("/")[2]
        case {"anyOf": choices}:
            return " or ".join(_type(choice) for choice in choices)
        case {"enum": words}:
            return ", ".join(_code(word) for word in words)
        case {"const": word}:
            return _code(str(word).lower() if isinstance(word, bool) else str(word))
        case {"type": "array", "items": item}:
            return f"list of {_type(item)}"
        case {"type": word}:
            return str(word)
    return "any"


def _code(word: str) -> str:
    return f"`{word}`" if word else ""


if __name__ == "__main__":
    print(render(), end="")
