"""Requests of the HubSpot API, date version 2026-03."""

from connector.simulator.vendors.schemas import FLAG, FREE, TEXT, Schema, array, closed, compiled

PROPERTIES: Schema = {"type": "object", "additionalProperties": {"type": "string"}}
"""Every property value is a string, numbers and booleans too; "" clears."""

NAME: Schema = {"type": "string", "pattern": "^[a-z][a-z0-9_]*$", "maxLength": 100}
ASSOCIATIONS: Schema = array(FREE)
TRACE: Schema = {"objectWriteTraceId": TEXT}

OPTION = closed(
    {"label": TEXT, "value": TEXT, "displayOrder": {"type": "integer"}, "hidden": FLAG, "description": TEXT},
    "label",
    "value",
    "displayOrder",
    "hidden",
)
TYPES = {"enum": ["string", "number", "date", "datetime", "bool", "enumeration", "phone_number"]}
FIELD_TYPES = {
    "enum": [
        "text",
        "textarea",
        "number",
        "date",
        "select",
        "radio",
        "checkbox",
        "booleancheckbox",
        "html",
        "file",
        "phonenumber",
        "calculation_equation",
    ]
}
PROPERTY: Schema = {
    "label": TEXT,
    "groupName": TEXT,
    "type": TYPES,
    "fieldType": FIELD_TYPES,
    "description": TEXT,
    "options": array(OPTION, maxItems=5000),
    "displayOrder": {"type": "integer"},
    "hidden": FLAG,
    "formField": FLAG,
    "calculationFormula": TEXT,
    "externalOptions": FLAG,
    "referencedObjectType": TEXT,
    "dataSensitivity": {"enum": ["non_sensitive", "sensitive", "highly_sensitive"]},
}
NEW_PROPERTY = closed(
    PROPERTY | {"name": NAME, "hasUniqueValue": FLAG}, "name", "label", "groupName", "type", "fieldType"
)
EVENT = closed(
    {
        "eventName": TEXT,
        "email": TEXT,
        "objectId": TEXT,
        "utk": TEXT,
        "uuid": TEXT,
        "occurredAt": TEXT,
        "properties": PROPERTIES,
    },
    "eventName",
    "properties",
)
IDS: Schema = array({"type": "string", "pattern": r"^\d+$"}, maxItems=100_000)


def inputs(item: Schema) -> Schema:
    """A batch of at most 100 items (the vendor's documentation; its published spec has no number)."""
    return closed({"inputs": array(item, minItems=1, maxItems=100)}, "inputs")


EVENT_PROPERTY = closed(
    {
        "name": NAME | {"maxLength": 50},
        "label": TEXT,
        "type": {"enum": ["string", "number", "enumeration", "datetime"]},
        "description": TEXT,
        "options": array(OPTION),
    },
    "label",
    "type",
)


OPERATOR = {"enum": ["EQ", "NEQ", "GTE", "IN", "HAS_PROPERTY", "NOT_HAS_PROPERTY"]}

REQUESTS = compiled(
    {
        "create": closed({"properties": PROPERTIES, "associations": ASSOCIATIONS} | TRACE, "properties"),
        "update": closed({"properties": PROPERTIES} | TRACE, "properties"),
        "batch_create": inputs(closed({"properties": PROPERTIES, "associations": ASSOCIATIONS} | TRACE, "properties")),
        "batch_update": inputs(
            closed({"id": TEXT, "idProperty": TEXT, "properties": PROPERTIES} | TRACE, "id", "properties")
        ),
        "batch_upsert": inputs(
            closed({"id": TEXT, "idProperty": TEXT, "properties": PROPERTIES} | TRACE, "id", "properties")
        ),
        "batch_read": closed(
            {
                "properties": array(TEXT),
                "propertiesWithHistory": array(TEXT),
                "idProperty": TEXT,
                "inputs": array(closed({"id": TEXT}, "id"), minItems=1, maxItems=100),
            },
            "inputs",
            "properties",
            "propertiesWithHistory",
        ),
        "search": closed(
            {
                "filterGroups": array(
                    closed(
                        {
                            "filters": array(
                                closed(
                                    {
                                        "propertyName": TEXT,
                                        "operator": OPERATOR,
                                        "value": TEXT,
                                        "values": array(TEXT),
                                    },
                                    "propertyName",
                                    "operator",
                                ),
                                maxItems=6,
                            )
                        },
                        "filters",
                    ),
                    maxItems=5,
                ),
                "properties": array(TEXT),
                "sorts": array(
                    closed({"propertyName": TEXT, "direction": {"enum": ["ASCENDING", "DESCENDING"]}}, "propertyName"),
                    maxItems=1,
                ),
                "limit": {"type": "integer", "minimum": 1, "maximum": 200},
                "after": TEXT,
                "query": TEXT,
            }
        ),
        "merge": closed({"primaryObjectId": TEXT, "objectIdToMerge": TEXT}, "primaryObjectId", "objectIdToMerge"),
        "gdpr_delete": closed({"objectId": TEXT, "idProperty": TEXT}, "objectId"),
        "group": closed({"name": NAME, "label": TEXT, "displayOrder": {"type": "integer"}}, "name", "label"),
        "property": NEW_PROPERTY,
        "property_change": closed(PROPERTY),
        "property_batch": inputs(NEW_PROPERTY),
        "list": closed(
            {
                "name": {"type": "string", "minLength": 1},
                "objectTypeId": TEXT,
                "processingType": {"enum": ["MANUAL", "DYNAMIC", "SNAPSHOT"]},
                "filterBranch": FREE,
                "listFolderId": {"type": "integer"},
                "customProperties": PROPERTIES,
            },
            "name",
            "objectTypeId",
            "processingType",
        ),
        "list_search": closed(
            {
                "query": TEXT,
                "listIds": array(TEXT),
                "count": {"type": "integer", "minimum": 1, "maximum": 500},
                "offset": {"type": "integer", "minimum": 0},
                "processingTypes": array(TEXT),
                "additionalProperties": array(TEXT),
                "sort": TEXT,
            }
        ),
        "add_and_remove": closed(
            {"recordIdsToAdd": IDS, "recordIdsToRemove": IDS}, "recordIdsToAdd", "recordIdsToRemove"
        ),
        "record_ids": IDS,
        "event_definition": closed(
            {
                "label": {"type": "string", "maxLength": 50},
                "name": NAME | {"maxLength": 50},
                "description": TEXT,
                "primaryObject": TEXT,
                "includeDefaultProperties": FLAG,
                "propertyDefinitions": array(EVENT_PROPERTY, maxItems=50),
                "customMatchingId": FREE,
            },
            "label",
            "includeDefaultProperties",
            "propertyDefinitions",
        ),
        "event_property": EVENT_PROPERTY,
        "statuses": closed({"inputs": array(TEXT, minItems=1, maxItems=100)}, "inputs"),
        "event": EVENT,
        "event_batch": closed({"inputs": array(EVENT, minItems=1, maxItems=500)}, "inputs"),
    }
)
