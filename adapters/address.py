"""Which addresses a key may be sent to: https on the public internet, unless the settings allow more."""

import ipaddress
import re
from urllib.parse import urlsplit

from adapters.errors import Misconfigured


def is_public(address: str) -> bool:
    """True for an address on the public internet; False for private, loopback, link-local, multicast and the like.
    ValueError when it is no literal address."""
    ip = ipaddress.ip_address(address.split("%", 1)[0])
    ip = getattr(ip, "ipv4_mapped", None) or ip
    return ip.is_global and not ip.is_multicast


def permitted_address(default: str, base_url: str | None, allow_insecure: bool) -> str:
    """Scheme, host and port to call, such as `https://a.klaviyo.com`; raises Misconfigured with what would be right.

    Only literal addresses are judged here; a name is judged by what it resolves to, at each new connection.
    """
    address = (base_url or default).strip().rstrip("/")
    try:
        parts = urlsplit(address)
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        raise Misconfigured(f"base_url is not an address: {error}") from None
    if parts.scheme not in ("http", "https") or "@" in parts.netloc or not re.fullmatch(r"[A-Za-z0-9.:_-]+", host):
        raise Misconfigured("base_url must look like https://host or https://host:port")
    if parts.path or parts.query or parts.fragment or port == 0:
        raise Misconfigured("base_url replaces scheme, host and port only: leave out path and query")
    if allow_insecure:
        return address
    if parts.scheme == "http":
        raise Misconfigured("base_url is plain http: use https, or set allow_insecure to send the key unencrypted")
    name = host.rstrip(".").lower()
    try:
        public = is_public(host)
    except ValueError:
        public = name != "localhost" and not name.endswith(".localhost")
    if not public:
        raise Misconfigured(f"base_url {host} is not on the public internet: set allow_insecure if that is meant")
    return address
