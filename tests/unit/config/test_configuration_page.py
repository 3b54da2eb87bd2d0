import re
from pathlib import Path

import pytest
import yaml

from connector.config import field_types, schema, settings
from connector.config.kinds import known_kinds
from connector.config.schema import configuration_from
from connector.config.settings import Settings
from connector.config.yaml_file import parse
from connector.inbox.kafka.cluster import Cluster
from connector.streams import BROKERS

PAGE = (Path(__file__).parents[3] / "docs" / "configuration.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)


@pytest.mark.parametrize("example", EXAMPLES)
def test_the_examples_are_valid(example):
    configuration_from(parse(example, folder=Path("/etc/storecue")))


def test_every_key_has_its_line_and_its_example():
    written = [yaml.safe_load(example) for example in EXAMPLES]
    for section, entry in (
        ("sources", schema._Source),
        ("destinations", schema._Destination),
        ("streams", schema._Stream),
        ("fields", schema._Field),
        ("segments", schema._Segment),
        ("store", schema._Store),
        ("identity", schema._Identity),
    ):
        keys = {field.data_key or name for name, field in entry().fields.items()}
        found = [file.get(section, {}) for file in written]
        alone = section in ("store", "identity")
        used = {key for one in found for part in ([one] if alone else one.values()) for key in part}
        assert keys == used, section
        assert all(f"| `{key}` |" in PAGE for key in keys), section


def test_every_option_and_known_trait_is_named():
    for kind, wanted in known_kinds().destinations.items():
        assert all(f"| `{kind}` | `{name}` | `{option.example}` |" in PAGE for name, option in wanted.options.items())
    for kind, broker in BROKERS.items():
        for name, option in broker.takes.options.items():
            assert f"| `{kind}` | `{name}` | `{option.example}` |" in PAGE
            assert re.fullmatch(option.pattern, option.example)
        assert all(f"`{name}`" in PAGE for name in (*broker.takes.needs, *broker.takes.credentials))
    assert all(f"`{trait}`" in PAGE for trait in field_types.KNOWN_TRAITS)


def test_every_variable_is_in_the_table_with_its_default():
    source = Path(settings.__file__).read_text(encoding="utf-8")
    table = PAGE.partition("## Environment")[2]
    assert set(re.findall(r'env\.\w+\("([A-Z_]+)"', source)) == set(
        re.findall(r"`((?:STORECUE|DATABASE|KAFKA)_[A-Z_]+)`", table)
    )
    defaults = Settings.from_environment({})
    for name in ("port", "log_level", "log_format", "partitions", "max_body", "retention_days"):
        assert f"`{getattr(defaults, name)}`" in table, name
    cluster = Cluster("")
    for name in ("topic", "group", "security", "mechanism", "session", "record_limit"):
        assert f"| `{getattr(cluster, name)}` |" in table, name
