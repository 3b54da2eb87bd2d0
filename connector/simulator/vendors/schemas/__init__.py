"""JSON Schemas of the requests the real APIs take, written by hand from their documentation, one file per vendor.

Objects are closed wherever the vendor's shape is known: the vendors' published documents leave them open, so that a
misspelt key passes there and is ignored by the vendor without a word. Here it is an error.
"""

from typing import Any

from jsonschema import Draft202012Validator

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
TEXT_OR_NULL: Schema = {"type": ["string", "null"]}
FLAG: Schema = {"type": "boolean"}
FREE: Schema = {"type": "object"}


def closed(properties: Schema, *required: str, **more: Any) -> Schema:
    """An object with these properties and no others; `required` names those that must be there."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
        **more,
    }


def array(items: Schema, **more: Any) -> Schema:
    """An array of `items`; `more` such as maxItems."""
    return {"type": "array", "items": items, **more}


def compiled(schemas: dict[str, Schema]) -> dict[str, Draft202012Validator]:
    """One validator per request."""
    return {name: Draft202012Validator(schema) for name, schema in schemas.items()}
