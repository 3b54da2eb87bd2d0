"""Requests of the Mailchimp Marketing API 3.0."""

from connector.simulator.vendors.schemas import FLAG, FREE, TEXT, Schema, array, closed, compiled

STATUSES = ["subscribed", "unsubscribed", "cleaned", "pending", "transactional"]
STATUS: Schema = {"enum": STATUSES}
NUMBER: Schema = {"type": "number"}

MEMBER: Schema = {
    "email_address": TEXT,
    "email_type": {"enum": ["html", "text", ""]},
    "status": STATUS,
    "merge_fields": FREE,
    "interests": FREE,
    "language": TEXT,
    "vip": FLAG,
    "location": closed({"latitude": NUMBER, "longitude": NUMBER}),
    "ip_signup": TEXT,
    "timestamp_signup": TEXT,
    "ip_opt": TEXT,
    "timestamp_opt": TEXT,
}
PERMISSIONS: Schema = {
    "marketing_permissions": array(closed({"marketing_permission_id": TEXT, "enabled": FLAG})),
}
MEMBER_TYPES = ["text", "number", "address", "phone", "date", "url", "imageurl", "radio", "dropdown", "birthday", "zip"]
EMAILS: Schema = array(TEXT, maxItems=500)

REQUESTS = compiled(
    {
        "put_member": closed(MEMBER | PERMISSIONS | {"status_if_new": STATUS}, "email_address", "status_if_new"),
        "patch_member": closed(MEMBER | PERMISSIONS),
        "post_member": closed(MEMBER | PERMISSIONS | {"tags": array(TEXT)}, "email_address", "status"),
        "batch_members": closed(
            {
                "members": array(closed(MEMBER, "email_address"), maxItems=500),
                "update_existing": FLAG,
                "sync_tags": FLAG,
            },
            "members",
        ),
        "tags": closed(
            {
                "tags": array(
                    closed(
                        {
                            "name": {"type": "string", "minLength": 1, "maxLength": 100},
                            "status": {"enum": ["active", "inactive"]},
                        },
                        "name",
                        "status",
                    )
                ),
                "is_syncing": FLAG,
            },
            "tags",
        ),
        "event": closed(
            {
                "name": {"type": "string", "minLength": 2, "maxLength": 30, "pattern": "^[A-Za-z_-]+$"},
                "properties": {"type": "object", "additionalProperties": {"type": "string"}},
                "occurred_at": TEXT,
                "is_syncing": FLAG,
            },
            "name",
        ),
        "merge_field": closed(
            {
                "name": {"type": "string", "minLength": 1, "maxLength": 50},
                "type": {"enum": MEMBER_TYPES},
                "tag": {"type": "string", "pattern": "^[A-Za-z0-9_]*$", "maxLength": 10},
                "required": FLAG,
                "public": FLAG,
                "default_value": TEXT,
                "display_order": {"type": "integer"},
                "help_text": TEXT,
                "options": closed(
                    {
                        "choices": array(TEXT),
                        "date_format": TEXT,
                        "default_country": {"type": "integer"},
                        "phone_format": TEXT,
                        "size": {"type": "integer"},
                    }
                ),
            },
            "name",
            "type",
        ),
        "segment": closed(
            {
                "name": {"type": "string", "minLength": 1, "maxLength": 100},
                "static_segment": array(TEXT),
                "options": FREE,
            },
            "name",
        ),
        "segment_members": closed({"members_to_add": EMAILS, "members_to_remove": EMAILS}),
        "batch": closed(
            {
                "operations": array(
                    closed(
                        {
                            "method": {"enum": ["GET", "POST", "PUT", "PATCH", "DELETE"]},
                            "path": {"type": "string", "pattern": "^/"},
                            "params": FREE,
                            "body": TEXT,
                            "operation_id": TEXT,
                        },
                        "method",
                        "path",
                    ),
                    minItems=1,
                )
            },
            "operations",
        ),
    }
)
