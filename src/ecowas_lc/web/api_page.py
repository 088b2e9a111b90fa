"""The page that describes the API, generated from the OpenAPI description. It loads nothing from other hosts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Data = dict[str, Any]


def shown(description: Mapping[str, Any]) -> Data:
    """Return the parts of an OpenAPI description that the page shows."""
    schemas = description.get("components", {}).get("schemas", {})
    tags: dict[str, list[Data]] = {}
    for path, operations in description["paths"].items():
        for method, operation in operations.items():
            tags.setdefault((operation.get("tags") or ["other"])[0], []).append(
                {
                    "method": method.upper(),
                    "path": path,
                    "about": operation.get("description", "").replace("`", ""),
                    "parameters": [
                        {"name": each["name"], "where": each["in"], "value": _value(each, schemas)}
                        for each in operation.get("parameters", ())
                    ],
                    "body": _fields(operation.get("requestBody"), schemas),
                    "answers": ", ".join(operation["responses"]),
                }
            )
    return {"summary": description["info"]["summary"], "tags": list(tags.items())}


def _value(parameter: Mapping[str, Any], schemas: Mapping[str, Any]) -> str:
    needed = "required" if parameter.get("required") else _default(parameter["schema"])
    return _joined(_kind(parameter["schema"], schemas), needed, parameter.get("description"))


def _fields(body: Mapping[str, Any] | None, schemas: Mapping[str, Any]) -> list[Data]:
    if body is None:
        return []
    schema = next(iter(body["content"].values()))["schema"]
    schema = next((each for each in schema.get("anyOf", [schema]) if "$ref" in each), schema)
    schema = _resolved(schema, schemas)
    required = schema.get("required", ())
    return [
        {
            "name": name,
            "value": _joined(
                _kind(field, schemas),
                "required" if name in required else _default(field),
                field.get("description"),
            ),
        }
        for name, field in schema.get("properties", {}).items()
    ]


def _default(schema: Mapping[str, Any]) -> str:
    return f"default {schema['default']!r}" if schema.get("default") not in (None, "", []) else ""


def _joined(*parts: str | None) -> str:
    return "; ".join(part for part in parts if part)


def _resolved(schema: Mapping[str, Any], schemas: Mapping[str, Any]) -> Mapping[str, Any]:
    reference = schema.get("$ref", "")
    found: Mapping[str, Any] = schemas.get(reference.rpartition("/")[2], schema) if reference else schema
    return found


def _kind(schema: Mapping[str, Any], schemas: Mapping[str, Any]) -> str:
    schema = _resolved(schema, schemas)
    if "anyOf" in schema:
        kinds = [_kind(each, schemas) for each in schema["anyOf"] if each.get("type") != "null"]
        return " or ".join(kinds)
    if "enum" in schema:
        return ", ".join(map(str, schema["enum"]))
    if schema.get("type") == "array":
        return f"list of {_kind(schema.get('items', {}), schemas)}"
    bounds = [
        f"{word} {schema[key]}"
        for key, word in (("minimum", "from"), ("maximum", "to"), ("maxLength", "at most"))
        if key in schema
    ]
    return " ".join([str(schema.get("type", "any")), *bounds])
