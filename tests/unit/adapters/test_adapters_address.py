import pytest

from adapters.address import is_public, permitted_address
from adapters.errors import Misconfigured

VENDOR = "https://a.klaviyo.com"


def test_without_base_url_the_vendor_is_called() -> None:
    assert permitted_address(VENDOR, None, False) == VENDOR


@pytest.mark.parametrize(
    ("base_url", "address"),
    [
        ("https://proxy.example.com/", "https://proxy.example.com"),
        ("https://proxy.example.com:8443", "https://proxy.example.com:8443"),
        ("https://93.184.215.14", "https://93.184.215.14"),
        ("https://[2606:2800:21f::1]", "https://[2606:2800:21f::1]"),
    ],
)
def test_public_https_is_permitted(base_url: str, address: str) -> None:
    assert permitted_address(VENDOR, base_url, False) == address


@pytest.mark.parametrize(
    "base_url",
    [
        "http://proxy.example.com",
        "https://localhost:8080",
        "https://vendor.localhost",
        "https://127.0.0.1",
        "https://10.1.2.3",
        "https://192.168.0.10:9000",
        "https://169.254.169.254",
        "https://0.0.0.0",
        "https://[::1]",
        "https://[fe80::1]",
        "https://[fd00::1]",
        "https://[::ffff:127.0.0.1]",
        "https://224.0.0.1",
        "https://100.64.0.1",
    ],
)
def test_plain_http_and_private_addresses_need_allow_insecure(base_url: str) -> None:
    with pytest.raises(Misconfigured, match="allow_insecure"):
        permitted_address(VENDOR, base_url, False)
    assert permitted_address(VENDOR, base_url, True) == base_url


@pytest.mark.parametrize(
    "base_url",
    [
        "ftp://example.com",
        "example.com",
        "https://",
        "https://user:secret@example.com",
        "https://example.com/api",
        "https://example.com?x=1",
        "https://example.com#x",
        "https://example.com:99999",
        "https://example.com:0",
        "https://exämple.com",
        "https://exa mple.com",
        "https://[::1",
    ],
)
def test_anything_but_scheme_host_and_port_is_refused_even_when_insecure(base_url: str) -> None:
    with pytest.raises(Misconfigured) as caught:
        permitted_address(VENDOR, base_url, True)
    assert "secret" not in str(caught.value)


def test_a_name_is_no_literal_address() -> None:
    with pytest.raises(ValueError, match="example"):
        is_public("example.com")
