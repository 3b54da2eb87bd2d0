from dataclasses import replace
from pathlib import Path

import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from connector.config.export import to_yaml
from connector.config.field_types import FIELD_TYPES
from connector.config.schema import configuration_from
from connector.config.sealing import sealed
from connector.config.yaml_file import parse
from connector.domain import (
    Configuration,
    DestinationConfig,
    FieldConfig,
    SegmentConfig,
    SourceConfig,
    StoreInfo,
    VerifyConfig,
)

EXAMPLE = Path(__file__).parent / "storecue.yaml"

slugs = st.from_regex(r"[a-z0-9][a-z0-9_-]{0,12}", fullmatch=True)
field_names = st.from_regex(r"[a-z][a-z0-9_]{0,12}", fullmatch=True).filter(
    lambda name: not name.startswith("storecue_")
)
odd_texts = st.sampled_from(
    ["no", "on", "~", "null", "1e5", "0x1f", "12:30", "2026-10-15", "=", "- a", "a: b", "#", "1_000"]
)
names = odd_texts | st.text(min_size=1, max_size=40).filter(lambda text: text.isprintable() and text.strip())
values = odd_texts | st.text(max_size=300).filter(lambda text: "\0" not in text)
references = st.from_regex(r"env:[A-Z_][A-Z0-9_]{0,10}", fullmatch=True) | st.just("file:/run/secrets/a b")
literals = st.text(alphabet=st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=40).filter(
    lambda text: not text.startswith(("env:", "file:", "enc:"))
)
secret_texts = references | literals


@st.composite
def configurations(draw):
    rule = st.fixed_dictionaries({"trait": field_names, "=": values | st.booleans()}) | st.fixed_dictionaries(
        {
            "trait": st.just("total_spent"),
            ">": st.integers(-(2**63) + 1, 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False),
        }
    )
    rules = st.recursive(
        rule, lambda inner: st.fixed_dictionaries({"any": st.lists(inner, min_size=1, max_size=3)}), max_leaves=5
    )
    segments = [
        SegmentConfig(slug, draw(names), draw(rules)) for slug in draw(st.lists(slugs, max_size=4, unique=True))
    ]
    known = [segment.id for segment in segments]

    def destination(name):
        kind = draw(st.sampled_from(["klaviyo", "hubspot", "mailchimp"]))
        credential = {"hubspot": "access_token"}.get(kind, "api_key")
        return DestinationConfig(
            name=name,
            kind=kind,
            credentials={credential: draw(secret_texts)},
            list_id=draw(names) if kind == "mailchimp" else None,
            base_url=draw(st.sampled_from([None, "https://esp.example.com:8443"])),
            allow_insecure=draw(st.booleans()),
            dry_run=draw(st.booleans()),
            segments=draw(
                st.none() | (st.lists(st.sampled_from(known), unique=True).map(tuple) if known else st.just(()))
            ),
            lists=draw(st.booleans()),
            events=draw(st.booleans()),
            backfill=draw(st.booleans()),
            create_contacts=draw(st.sampled_from(["always", "consented", "never"])),
            verify=draw(st.none() | st.builds(VerifyConfig, st.integers(1, 10_000), st.booleans())),
            options={"revision": draw(names)} if kind == "klaviyo" and draw(st.booleans()) else {},
        )

    destinations = draw(st.lists(slugs, unique=True, max_size=3))

    def field(name):
        places = st.lists(st.sampled_from(destinations), min_size=1, unique=True).map(tuple)
        shown = draw(st.none() | places) if destinations else None
        path = draw(
            st.sampled_from(["traits.total_spent", "traits.last_order_at", "traits.note.deep", "consent.email"])
        )
        return FieldConfig(name, path, draw(st.sampled_from(FIELD_TYPES)), draw(names), shown)

    unique = {"unique": True, "max_size": 3}
    return Configuration(
        store=StoreInfo(
            draw(names), draw(st.sampled_from(["UTC", "Europe/Paris"])), draw(st.sampled_from(["EUR", "NOK"]))
        ),
        sources={
            name: SourceConfig(name, "shopify", tuple(draw(st.lists(secret_texts, min_size=1, **unique))))
            for name in draw(st.lists(slugs, **unique))
        },
        destinations={name: destination(name) for name in destinations},
        fields={name: field(name) for name in draw(st.lists(field_names, **unique))},
        segments={segment.id: segment for segment in segments},
    )


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(configuration=configurations())
def test_what_is_exported_means_the_same(kinds, vault, configuration):
    kept = sealed(configuration, Configuration(), vault)
    text = to_yaml(kept, kinds)
    again = configuration_from(parse(text), kinds)
    assert again == kept
    assert repr(again) == repr(kept)  # 1, 1.0 and true are equal in Python
    for section in ("sources", "destinations", "fields", "segments"):
        assert list(getattr(again, section)) == list(getattr(kept, section))
    assert sealed(again, kept, vault) == kept


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(name=names, value=values)
def test_readers_of_yaml_1_1_read_the_same(kinds, name, value):
    segments = {"s": SegmentConfig("s", name, {"trait": "x", "=": value})}
    file = yaml.safe_load(to_yaml(Configuration(segments=segments), kinds))
    assert file["segments"]["s"] == {"name": name, "when": {"trait": "x", "=": value}}


def test_the_documented_file_comes_back_as_it_was_written(kinds):
    configuration = configuration_from(parse(EXAMPLE.read_bytes()), kinds)
    text = to_yaml(replace(configuration, version=3), kinds)
    assert yaml.safe_load(text) == yaml.safe_load(EXAMPLE.read_text())
    assert list(yaml.safe_load(text)) == list(yaml.safe_load(EXAMPLE.read_text()))


def test_secrets_stay_closed(kinds, vault):
    configuration = Configuration(sources={"shop": SourceConfig("shop", "shopify", ("env:A", "canary"))})
    text = to_yaml(sealed(configuration, Configuration(), vault), kinds)
    assert "env:A" in text
    assert "enc:" in text
    assert "canary" not in text
