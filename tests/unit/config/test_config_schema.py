import json
import re
from pathlib import Path

import pytest

from connector.config.kinds import known_kinds
from connector.config.schema import configuration_from
from connector.config.yaml_file import Document, InvalidConfiguration, parse
from connector.domain import DestinationConfig, FieldConfig, SegmentConfig, SourceConfig, StoreInfo, VerifyConfig

EXAMPLE = Path(__file__).parent / "storecue.yaml"


def errors_of(text, kinds):
    with pytest.raises(InvalidConfiguration) as caught:
        configuration_from(parse(text), kinds)
    return str(caught.value).split("\n")


def test_the_documented_file(kinds):
    configuration = configuration_from(parse(EXAMPLE.read_bytes()), kinds)
    assert configuration.store == StoreInfo("Aurora Outfitters", "Europe/Paris", "EUR")
    assert configuration.sources == {"shop": SourceConfig("shop", "shopify", ("env:SHOPIFY_SECRET",))}
    assert list(configuration.destinations.values()) == [
        DestinationConfig("klaviyo", "klaviyo", {"api_key": "env:KLAVIYO_KEY"}),
        DestinationConfig("hubspot", "hubspot", {"access_token": "env:HUBSPOT_TOKEN"}),
        DestinationConfig(
            "mailchimp",
            "mailchimp",
            {"api_key": "env:MAILCHIMP_KEY"},
            list_id="a1b2c3d4e5",
            create_contacts="consented",
        ),
    ]
    assert list(configuration.fields.values()) == [
        FieldConfig("total_spent", "traits.total_spent", "number", "Total spent"),
        FieldConfig("orders_count", "traits.orders_count", "number", "Orders count"),
        FieldConfig("last_order_at", "traits.last_order_at", "datetime", "Last order at"),
    ]
    assert list(configuration.segments) == [
        "high-value-infrequent",
        "viewed-not-bought",
        "abandoned-checkout",
        "recent-buyers",
        "vip",
        "lapsed-vip",
    ]
    assert configuration.segments["viewed-not-bought"] == SegmentConfig(
        "viewed-not-bought",
        "Viewed X, not buying",
        {
            "all": [
                {"event": "Product Viewed", "where": {"product_id": "632910392"}, "within": "48h"},
                {"not": {"event": "Order Completed", "within": "30d"}},
            ]
        },
    )


def test_every_built_in_destination_is_described():
    kinds = known_kinds()
    assert {"klaviyo", "hubspot", "mailchimp"} <= kinds.destinations.keys()
    for name, kind in kinds.destinations.items():
        assert kind.credentials or name == "console", name
        for option in kind.options.values():
            assert re.fullmatch(option.pattern, option.example), (name, option)


def test_everything_a_destination_takes(kinds):
    text = """
    version: 1
    destinations:
      test:
        kind: klaviyo
        credentials: {api_key: pk_literal}
        base_url: http://127.0.0.1:9001/
        allow_insecure: true
        dry_run: true
        segments: [vip]
        lists: true
        events: true
        create_contacts: consented
        options: {revision: 2026-10-15}
        verify: {sample: 50, repair: false}
    fields:
      consent: {from: consent.email}
      bought: {from: traits.first_order_at, type: date, label: First bought}
      note: {from: traits.note}
    segments:
      vip: {when: {trait: tags, contains: vip}}
    """
    configuration = configuration_from(parse(text), kinds)
    assert configuration.destinations["test"] == DestinationConfig(
        name="test",
        kind="klaviyo",
        credentials={"api_key": "pk_literal"},
        base_url="http://127.0.0.1:9001",
        allow_insecure=True,
        dry_run=True,
        segments=("vip",),
        lists=True,
        events=True,
        create_contacts="consented",
        options={"revision": "2026-10-15"},
        verify=VerifyConfig(50, False),
    )
    assert [(field.type, field.label) for field in configuration.fields.values()] == [
        ("text", "Consent"),
        ("date", "First bought"),
        ("text", "Note"),
    ]
    assert configuration.segments["vip"].name == "vip"


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("false", None),
        ("true", VerifyConfig(200, True)),
        ("{}", VerifyConfig(200, True)),
        ("{sample: 1000}", VerifyConfig(1000, True)),
        ("{repair: false}", VerifyConfig(200, False)),
    ],
)
def test_how_a_destination_is_verified(kinds, written, meant):
    text = f"version: 1\ndestinations:\n  k: {{kind: klaviyo, credentials: {{api_key: x}}, verify: {written}}}"
    assert configuration_from(parse(text), kinds).destinations["k"].verify == meant


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("nightly", "/verify: is a text; write {sample: 200, repair: true}, or false for never"),
        ("{sample: 0}", "/verify/sample: must be a whole number from 1 to 10000"),
        ("{sample: true}", "/verify/sample: must be a whole number from 1 to 10000"),
        ("{repair: 1}", "/verify/repair: is a number; write true or false"),
        ("{smaple: 1}", '/verify/smaple: is not known here; did you mean "sample"?'),
    ],
)
def test_what_verify_may_not_be(kinds, written, message):
    text = f"version: 1\ndestinations:\n  k: {{kind: klaviyo, credentials: {{api_key: x}}, verify: {written}}}"
    assert errors_of(text, kinds)[-1].endswith(f"/destinations/k{message}")


def test_options_are_passed_on_as_texts(kinds):
    text = "version: 1\ndestinations: {h: {kind: hubspot, credentials: {access_token: 'env:H'}, options: %s}}"
    configuration = configuration_from(parse(text % "{requests: 190, events: true}"), kinds)
    assert configuration.destinations["h"].options == {"requests": "190", "events": "true"}


def test_the_least_file(kinds):
    configuration = configuration_from(parse("version: 1\nstore:\nsources:\nfields:\n"), kinds)
    assert configuration.store == StoreInfo()
    assert not configuration.sources
    assert configuration.segments == {}


def test_file_references_are_counted_from_the_folder_of_the_file(kinds):
    text = "version: 1\nsources: {shop: {kind: shopify, secrets: ['file:secret', 'file:/run/secret']}}"
    configuration = configuration_from(parse(text, folder=Path("/etc/storecue")), kinds)
    assert configuration.sources["shop"].secrets == ("file:/etc/storecue/secret", "file:/run/secret")


KLAVIYO = "kind: klaviyo, credentials: {api_key: 'env:K'}"
MAILCHIMP = "kind: mailchimp, credentials: {api_key: 'env:M'}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("store: {}", ":1 /version: is missing; write version: 1"),
        ("version: 2", ":1 /version: must be 1, the only version of this format"),
        ("version: '1'", ":1 /version: must be 1, the only version of this format"),
        ("version: true", ":1 /version: must be 1, the only version of this format"),
        ("- version: 1", ":1: must be an object: a key, a colon and its value"),
        ("version: 1\nsegmnts: {}", ':2 /segmnts: is not known here; did you mean "segments"?'),
        (
            "version: 1\nxyz: {}",
            ":2 /xyz: is not known here; use one of version, store, identity, sources, destinations, streams, fields, "
            "segments",
        ),
        # store
        ("version: 1\nstore: {tz: UTC}", ":2 /store/tz: is not known here; use one of name, timezone, currency"),
        ("version: 1\nstore: {name: 3}", ":2 /store/name: is a number, but must be a text; write it in quotes"),
        ("version: 1\nstore: {name: ' '}", ":2 /store/name: must be a text of 1 to 200 characters on one line"),
        (
            "version: 1\nstore: {timezone: Europe/Pari}",
            ':2 /store/timezone: "Europe/Pari" is not a time zone; did you mean "Europe/Paris"?',
        ),
        (
            "version: 1\nstore: {timezone: ../../etc/passwd}",
            ':2 /store/timezone: "../../etc/passwd" is not a time zone; write an IANA name such as Europe/Paris',
        ),
        (
            "version: 1\nstore: {currency: eur}",
            ':2 /store/currency: "eur" is not a currency; write its ISO 4217 code, such as EUR',
        ),
        # sources
        (
            "version: 1\nsources:\n  My Shop: {kind: shopify, secrets: [env:A]}",
            ":3 /sources/My Shop: a name has lower-case letters, digits, - and _ "
            "(at most 63, a letter or digit first), such as vip-2026",
        ),
        (
            "version: 1\nsources:\n  shop: {kind: shopfy, secrets: [env:A]}",
            ':3 /sources/shop/kind: "shopfy" is not a kind of source; did you mean "shopify"?',
        ),
        ("version: 1\nsources:\n  shop: {kind: shopify}", ":3 /sources/shop/secrets: is missing"),
        (
            "version: 1\nsources:\n  shop: {kind: shopify, secrets: env:A}",
            ":3 /sources/shop/secrets: is a text, but must be a list: [..]",
        ),
        (
            "version: 1\nsources:\n  shop: {kind: shopify, secrets: []}",
            ":3 /sources/shop/secrets: is an empty list; give it at least one",
        ),
        (
            "version: 1\nsources:\n  shop:\n    kind: shopify\n    secrets:\n      - env:A\n      - env:A",
            ":7 /sources/shop/secrets/1: is the same as number 1 of the list; keep one",
        ),
        (
            "version: 1\nsources:\n  shop: {kind: shopify, secrets: ['${SHOPIFY_SECRET}']}",
            ":3 /sources/shop/secrets/0: is written as in a shell, and would be taken as it stands; write env: and the "
            "variable's name",
        ),
        (
            "version: 1\nsources:\n  shop: {kind: shopify, secrets: ['env:']}",
            ":3 /sources/shop/secrets/0: env: must be followed by the name of an environment variable, "
            "such as env:SHOPIFY_SECRET",
        ),
        (
            "version: 1\nsources:\n  shop: {kind: shopify, secrets: ['file:']}",
            ":3 /sources/shop/secrets/0: file: must be followed by a path, such as file:/run/secrets/shopify",
        ),
        (
            "version: 1\nsources: [shop]",
            ":2 /sources: is a list, but must be an object: a name, a colon, and what it stands for",
        ),
        ("version: 1\nsources:\n  shop:", ":3 /sources/shop: must be an object: a key, a colon and its value"),
        (
            "version: 1\nsources:\n  shop: {kind: shopify, secrets: ['file:secret']}",
            ":3 /sources/shop/secrets/0: file: needs an absolute path here, such as file:/run/secrets/shopify",
        ),
        (
            "version: 1\ndestinations:\n  k: {kind: klaviyo, credentials: {api_key: file:secret}}",
            ":3 /destinations/k/credentials/api_key: file: needs an absolute path here, "
            "such as file:/run/secrets/shopify",
        ),
        # destinations
        (
            "version: 1\ndestinations:\n  k: {kind: klavio, credentials: {api_key: env:K}}",
            ':3 /destinations/k/kind: "klavio" is not a kind of destination; did you mean "klaviyo"?',
        ),
        (
            "version: 1\ndestinations:\n  h:\n    kind: hubspot\n    credentials: {}",
            ":5 /destinations/h/credentials/access_token: is missing; hubspot needs it: "
            '{access_token: "env:NAME"}, where NAME is an environment variable',
        ),
        (
            "version: 1\ndestinations:\n  k:\n    kind: klaviyo\n    credentials:\n      api_key: x\n      apikey: x",
            ':7 /destinations/k/credentials/apikey: is not known to klaviyo; did you mean "api_key"?',
        ),
        (
            f"version: 1\ndestinations:\n  m: {{{MAILCHIMP}}}",
            ":3 /destinations/m/list_id: is missing; mailchimp needs the id of the audience (list) to keep",
        ),
        (
            f"version: 1\ndestinations:\n  m: {{{MAILCHIMP}, list_id: 12345}}",
            ":3 /destinations/m/list_id: is a number, but must be a text; write it in quotes",
        ),
        (
            f"version: 1\ndestinations:\n  m: {{{MAILCHIMP}, list_id: a1, engagement: 10}}",
            ":3 /destinations/m/engagement: is a number, but must be a text; write it in quotes",
        ),
        (
            f"version: 1\ndestinations:\n  m: {{{MAILCHIMP}, list_id: a1, engagement: 30s}}",
            ":3 /destinations/m/engagement: must be from 1m to 1d, such as 15m",
        ),
        (
            f"version: 1\ndestinations:\n  k: {{{KLAVIYO}, engagement: 15m}}",
            ":3 /destinations/k/engagement: is not used by klaviyo: it cannot be asked; remove it",
        ),
        (
            f"version: 1\ndestinations:\n  k: {{{KLAVIYO}, list_id: abc}}",
            ":3 /destinations/k/list_id: is not used by klaviyo; remove it",
        ),
        (
            f"version: 1\ndestinations:\n  k: {{{KLAVIYO}, lists: yes}}",
            ":3 /destinations/k/lists: is a text; write true or false",
        ),
        (
            f"version: 1\ndestinations:\n  k: {{{KLAVIYO}, create_contacts: consent}}",
            ':3 /destinations/k/create_contacts: "consent" is not known; did you mean "consented"?',
        ),
        (
            f"version: 1\ndestinations:\n  k: {{{KLAVIYO}, options: {{revison: x}}}}",
            ':3 /destinations/k/options/revison: is not known to klaviyo; did you mean "revision"?',
        ),
        (
            f"version: 1\ndestinations:\n  k: {{{KLAVIYO}, segments: [vipp]}}\n"
            "segments:\n  vip: {when: {trait: x, exists: true}}",
            ':3 /destinations/k/segments/0: there is no segment "vipp"; did you mean "vip"?',
        ),
        (
            f"version: 1\ndestinations:\n  k: {{{KLAVIYO}, segments: [vip]}}",
            ':3 /destinations/k/segments/0: there is no segment "vip"; there are none',
        ),
        (
            "version: 1\ndestinations:\n  h:\n    kind: hubspot\n    credentials: {access_token: env:H}\n"
            "    options: {requests: many}",
            ":6 /destinations/h/options/requests: must look like 190",
        ),
        # fields
        (
            "version: 1\nfields:\n  Total: {from: traits.total_spent}",
            ":3 /fields/Total: a field's name has lower-case letters, digits and _ (at most 63, a letter first), "
            "and is not storecue_...",
        ),
        (
            "version: 1\nfields:\n  x: {from: total_spent}",
            ':3 /fields/x/from: "total_spent" is not a value of a profile; write traits. and the name of a trait, '
            "such as traits.total_spent, or consent. and a channel, such as consent.email",
        ),
        (
            "version: 1\nfields:\n  x: {from: traits.total_spent, type: numbr}",
            ':3 /fields/x/type: "numbr" is not known; did you mean "number"?',
        ),
        # segments
        ("version: 1\nsegments:\n  vip: {name: VIP}", ":3 /segments/vip/when: is missing"),
        (
            "version: 1\nsegments:\n  vip:\n    name: VIP\n    when:",
            ":5 /segments/vip/when: is empty, but must be a rule such as {event: Order Completed}",
        ),
        (
            "version: 1\nsegments:\n  vip:\n    name: VIP\n    when: true",
            ":5 /segments/vip/when: is true or false, but must be a rule such as {event: Order Completed}",
        ),
    ],
)
def test_an_error_names_line_pointer_and_what_would_be_right(kinds, text, message):
    assert errors_of(text, kinds) == [f"storecue.yaml{message}"]


@pytest.mark.parametrize(
    "url",
    [
        "ftp://esp.example.com",
        "https://",
        "esp.example.com",
        "https://user:canary@esp.example.com",
        "https://esp.example.com/v3",
        "https://esp.example.com?x=1",
        "http://esp.example.com",
        "https://127.0.0.1",
        "https://10.1.2.3:8443",
        "https://[::1]",
        "https://[::ffff:10.0.0.1]",
        "https://169.254.169.254",
        "https://localhost:9000",
        "https://esp.example.com:99999",
    ],
)
def test_addresses_that_need_more_than_a_base_url(kinds, url):
    (error,) = errors_of(
        f"version: 1\ndestinations:\n  k:\n    {KLAVIYO.replace(', c', chr(10) + '    c')}\n    base_url: '{url}'",
        kinds,
    )
    assert error.startswith("storecue.yaml:6 /destinations/k/base_url: ")
    assert "canary" not in error


def test_all_problems_are_told_at_once_in_the_order_of_the_file(kinds):
    errors = errors_of(
        "version: 3\nstore: {currency: EURO}\nsegments:\n  A: {when: {x: 1}}\n  b: {}\ndestinatons: {}", kinds
    )
    assert [error.split(":")[1].split(" ")[0] for error in errors] == ["1", "2", "4", "5", "6"]


@pytest.mark.parametrize(
    "place",
    ["sources: {s: {kind: shopify, secrets: [%s]}}", "destinations: {k: {kind: klaviyo, credentials: {api_key: %s}}}"],
)
@pytest.mark.parametrize(
    "secret", ["'canary\\n'", "[canary]", "{canary: canary}", "'env:canary!'", "'file: '", "20261122", "''"]
)
def test_no_message_repeats_a_secret(kinds, place, secret):
    try:
        configuration_from(parse(f"version: 1\n{place % secret}"), kinds)
    except InvalidConfiguration as error:
        assert "canary" not in str(error)
        assert "20261122" not in str(error)


@pytest.mark.parametrize(
    ("text", "place", "about"),
    [
        (
            "version: 1\nsegments:\n  vip:\n    when:\n      any:\n        - {trait: total_spent, '=>': 5}",
            "storecue.yaml:6 /segments/vip/when/any/0/=>: ",
            "'=>' is not known",
        ),
        (
            "version: 1\nsegments:\n  vip:\n    when:\n      all:\n        - event: Order\n          within: 7 days",
            "storecue.yaml:7 /segments/vip/when/all/0/within: ",
            "write such as 30m, 48h, 7d",
        ),
        (
            "version: 1\nsegments:\n  a: {when: {segment: b}}\n  b: {when: {not: {segment: a}}}",
            "storecue.yaml:3 /segments/a/when: ",
            "a > b > a",
        ),
    ],
)
def test_a_wrong_rule_is_told_with_its_place(kinds, text, place, about):
    (error,) = errors_of(text, kinds)
    assert error.startswith(place)
    assert about in error


def test_each_wrong_rule_is_told(kinds):
    errors = errors_of(
        "version: 1\nsegments:\n  a: {when: {trait: x}}\n  b: {when: {trait: y, '=': 1}}\n  c: {when: {segment: nope}}",
        kinds,
    )
    assert [error.partition(" ")[0] for error in errors] == ["storecue.yaml:3", "storecue.yaml:5"]


def test_a_rule_may_be_as_deep_as_rules_can_be(kinds):
    rule = "{trait: x, exists: true}"
    for _ in range(28):
        rule = f"{{any: [{rule}]}}"
    assert configuration_from(parse(f"version: 1\nsegments: {{a: {{when: {rule}}}}}"), kinds).segments["a"]


def test_without_a_file_the_pointer_stands_alone(kinds):
    with pytest.raises(InvalidConfiguration) as caught:
        configuration_from(Document({"version": 1, "store": {"currency": "X"}}), kinds)
    assert str(caught.value).startswith('/store/currency: "X" is not a currency')
    assert [(problem.pointer, problem.line) for problem in caught.value.problems] == [("/store/currency", 0)]


def test_json_is_yaml_too(kinds):
    text = json.dumps({"version": 1, "segments": {"a": {"when": {"trait": "x", "=": "é\u2028"}}}})
    assert configuration_from(parse(text), kinds).segments["a"].when["="] == "é\u2028"
