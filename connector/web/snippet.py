"""What a merchant pastes, the first-party snippet and the custom pixel of a source; and the script that one loads."""

import functools
import gzip
from hashlib import blake2b
from importlib.resources import files
from typing import NamedTuple

import orjson
from flask import Response, request

from connector.domain import SourceConfig
from connector.errors import ConfigurationError
from connector.web import current
from connector.web.api.routes import Noun
from connector.web.problems import not_found

_KEPT_FOR = "public, max-age=300, stale-while-revalidate=86400"  # a changed key is on every page within minutes

_TAG = """\
<script>
!function(w,d,s){if(w.storecue)return;var q=w.storecue=[];
"page track identify feedback consent reset".split(" ").forEach(function(m){
q[m]=function(){q.push([m].concat([].slice.call(arguments)))}});
s=d.createElement("script");s.async=1;s.src="ADDRESS";d.head.appendChild(s)}(window,document);
storecue.page();
// Nothing leaves the page before the visitor allows it. Tell what your banner says, once and whenever it changes:
// storecue.consent(true);
</script>
"""


class Script(NamedTuple):
    """A script as it is served."""

    plain: bytes
    packed: bytes
    tag: str


@functools.lru_cache(maxsize=64)
def script(key: str, public_url: str) -> Script:
    """The script that sends to `public_url` with this public key."""
    config = _json({"key": key, "url": f"{public_url}/v1/b"})
    plain = _file("snippet.js").replace("CONFIG", config).encode()
    return Script(plain, gzip.compress(plain, 9, mtime=0), blake2b(plain, digest_size=12).hexdigest())


def tag(config: SourceConfig, public_url: str) -> str:
    """The HTML to paste into every page. ConfigurationError when the source has no public key."""
    _key(config)
    return _TAG.replace("ADDRESS", f"{public_url}/snippet/{config.name}.js")


def pixel(config: SourceConfig, public_url: str) -> str:
    """The code to paste as Shopify's custom pixel. ConfigurationError when the source has no public key."""
    told = _json({"url": f"{public_url}/v1/pixel", "key": _key(config)})
    return _file("pixel.js").replace("SOURCE", config.name, 1).replace("CONFIG", told, 1)


def _key(config: SourceConfig) -> str:
    if config.browser is None:
        raise ConfigurationError(
            f"the source {config.name} takes nothing from pages: give it `browser: {{keys: [..], origins: [..]}}`",
            reason="no_browser_key",
        )
    return config.browser.keys[0]


def _file(name: str) -> str:
    return (files("connector.web") / name).read_text("utf-8")


def _json(value: object) -> str:
    """JSON that may stand in a script, whatever is around it."""
    return orjson.dumps(value).decode().replace("<", "\\u003c")


snippet = Noun("snippet", __name__, "What a shop's pages load. Public, as it stands on every page.", prefix="/snippet")


@snippet.endpoint("GET", "/<source>.js", answers={"type": "string"}, content_type="text/javascript", refuses=(404,))
def get_snippet(source: str) -> Response:
    """The script of a source, with its public key in it."""
    config = current.services().configuration().sources.get(source)
    if config is None or config.browser is None:
        raise not_found("source with browser keys")
    found = script(config.browser.keys[0], current.services().settings.public_url)
    packed = request.accept_encodings.quality("gzip") > 0
    response = Response(found.packed if packed else found.plain, content_type="text/javascript; charset=utf-8")
    response.headers["Cache-Control"] = _KEPT_FOR
    response.headers["Cross-Origin-Resource-Policy"] = "cross-origin"  # the shop's pages are of another origin
    response.headers["Vary"] = "Accept-Encoding"
    if packed:
        response.headers["Content-Encoding"] = "gzip"
    response.set_etag(found.tag, weak=True)
    response.make_conditional(request)
    return response
