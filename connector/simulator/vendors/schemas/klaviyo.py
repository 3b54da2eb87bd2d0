"""Requests of the Klaviyo API, revision 2026-07-15 (JSON:API)."""

from connector.simulator.vendors.schemas import FREE, TEXT, TEXT_OR_NULL, Schema, array, closed, compiled

NUMBER_OR_NULL: Schema = {"type": ["number", "null"]}
PLACE: Schema = {"type": ["string", "number", "null"]}

LOCATION = closed(
    dict.fromkeys(("address1", "address2", "city", "country", "region", "zip", "timezone", "ip"), TEXT_OR_NULL)
    | {"latitude": PLACE, "longitude": PLACE}
)

IDENTITY: Schema = dict.fromkeys(("email", "phone_number", "external_id", "_kx"), TEXT_OR_NULL)
ATTRIBUTES: Schema = (
    IDENTITY
    | dict.fromkeys(("first_name", "last_name", "organization", "locale", "title", "image"), TEXT_OR_NULL)
    | {"location": {"anyOf": [LOCATION, {"type": "null"}]}, "properties": {"type": ["object", "null"]}}
)

OBJECT_OR_NULL: Schema = {"type": ["object", "null"]}
META = closed(
    {
        "patch_properties": closed(
            {
                "append": OBJECT_OR_NULL,
                "unappend": OBJECT_OR_NULL,
                "unset": {"anyOf": [TEXT_OR_NULL, array(TEXT)]},
            },
            type=["object", "null"],
        ),
        "patch_identifiers": closed({"append": FREE, "unappend": FREE}, type=["object", "null"]),
    }
)


def resource(kind: str, attributes: Schema, **more: Schema) -> Schema:
    """A JSON:API resource of this type; `more` are further members such as `relationships`."""
    return closed({"type": {"const": kind}, "attributes": attributes, **more}, "type", "attributes")


def document(data: Schema) -> Schema:
    """A JSON:API document around `data`."""
    return closed({"data": data}, "data")


def reference(kind: str) -> Schema:
    """A JSON:API resource identifier."""
    return closed({"type": {"const": kind}, "id": TEXT}, "type", "id")


PROFILE = resource("profile", closed(ATTRIBUTES), id=TEXT_OR_NULL, meta=META)
"""A profile to import. Its `meta` stands BESIDE attributes here and in bulk events, INSIDE them in a single event."""

EVENT_IDENTITY: Schema = ATTRIBUTES | {"anonymous_id": TEXT_OR_NULL}
EVENT_PROFILE = resource("profile", closed(EVENT_IDENTITY | {"meta": META}), id=TEXT_OR_NULL)
BULK_EVENT_PROFILE = resource("profile", closed(EVENT_IDENTITY), id=TEXT_OR_NULL, meta=META)

METRIC = document(
    resource("metric", closed({"name": {"type": "string", "minLength": 1, "maxLength": 127}, "service": TEXT}, "name"))
)
EVENT_ATTRIBUTES: Schema = {
    "properties": {"type": "object", "maxProperties": 400},
    "time": TEXT_OR_NULL,
    "value": NUMBER_OR_NULL,
    "value_currency": TEXT_OR_NULL,
    "unique_id": TEXT_OR_NULL,
    "backfill": {"type": ["boolean", "null"]},
    "metric": METRIC,
}

REQUESTS = compiled(
    {
        "profile_import": document(PROFILE),
        "profile_bulk_import": document(
            resource(
                "profile-bulk-import-job",
                closed({"profiles": document(array(FREE, minItems=1))}, "profiles"),
                relationships=closed({"lists": document(array(reference("list")))}),
            )
        ),
        "profile": PROFILE,
        "list": document(
            resource(
                "list",
                closed(
                    {
                        "name": {"type": "string", "minLength": 1},
                        "opt_in_process": {"enum": ["double_opt_in", "single_opt_in", None]},
                    },
                    "name",
                ),
            )
        ),
        "list_profiles": document(array(reference("profile"), minItems=1, maxItems=1000)),
        "event": document(
            resource(
                "event",
                closed(EVENT_ATTRIBUTES | {"profile": document(EVENT_PROFILE)}, "properties", "metric", "profile"),
            )
        ),
        "event_bulk": document(
            resource(
                "event-bulk-create-job",
                closed(
                    {
                        "events-bulk-create": document(
                            array(
                                resource(
                                    "event-bulk-create",
                                    closed(
                                        {
                                            "backfill": {"type": ["boolean", "null"]},
                                            "profile": document(BULK_EVENT_PROFILE),
                                            "events": document(
                                                array(
                                                    resource("event", closed(EVENT_ATTRIBUTES, "properties", "metric")),
                                                    minItems=1,
                                                )
                                            ),
                                        },
                                        "profile",
                                        "events",
                                    ),
                                ),
                                minItems=1,
                            )
                        )
                    },
                    "events-bulk-create",
                ),
            )
        ),
        "merge": document(
            closed(
                {
                    "type": {"const": "profile-merge"},
                    "id": TEXT,
                    "relationships": closed(
                        {"profiles": document(array(reference("profile"), minItems=1, maxItems=1))}, "profiles"
                    ),
                },
                "type",
                "id",
                "relationships",
            )
        ),
        "deletion": document(
            resource(
                "data-privacy-deletion-job",
                closed(
                    {
                        "profile": document(
                            resource(
                                "profile",
                                closed({"email": TEXT_OR_NULL, "phone_number": TEXT_OR_NULL}),
                                id=TEXT_OR_NULL,
                            )
                        )
                    },
                    "profile",
                ),
            )
        ),
    }
)
