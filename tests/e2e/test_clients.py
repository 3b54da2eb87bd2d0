"""Segment's and RudderStack's own clients, unmodified, and our snippet and pixel, against a StoreCue that runs."""

import json
import os
import shutil
import socket
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import rudderstack.analytics.client
import segment.analytics.client
from clients import modules, pages, run_node, visiting
from running import Running, until

from connector.domain import BrowserConfig, SourceConfig
from connector.inbox.sql import unpack
from connector.web import snippet
from tests.integration.emptied import HAPPENED

SERVER_KEY, BROWSER_KEY = "sk_server_key", "wk_public_key"


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


class Site(Running):
    """A StoreCue with a site, and the pages of the site on another port. `folder` is the test's own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.page_port = free_port()
        super().__init__(
            folder,
            f"""
version: 1
sources:
  shop: {{kind: shopify, secrets: [hush]}}
  site:
    kind: segment_api
    secrets: [{SERVER_KEY}]
    browser: {{keys: [{BROWSER_KEY}], origins: ["{self.origin}", "null"]}}
  forwarded:
    kind: segment_api
    secrets: [sk_forwarded]
    browser: {{keys: [wk_forwarded], origins: ["{self.origin}", "null"]}}
    shop: shop
""",
        )

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.page_port}"

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def events(self) -> dict[str, dict[str, Any]]:
        """Name -> properties of the stored events."""
        return {name: json.loads(found) for name, found in self.rows("SELECT name, properties FROM event")}

    def identifiers(self) -> set[tuple[str, str]]:
        return {(kind, value) for kind, value in self.rows("SELECT kind, value FROM identifier")}

    def kept(self, *topics: str) -> bool:
        return [topic for (topic,) in self.rows("SELECT topic FROM delivery ORDER BY topic", "inbox")] == sorted(topics)

    def empty(self) -> None:
        """Nothing has happened yet: no people, no events, nothing in the log of deliveries or of the processes."""
        until(self.worked_off, 30, "all is worked off")
        for database, tables in (("storecue", [table.name for table in HAPPENED]), ("inbox", ["delivery"])):
            with closing(sqlite3.connect(self.data / f"{database}.db", timeout=15)) as connection, connection:
                for table in tables:
                    connection.execute(f'DELETE FROM "{table}"')
        os.truncate(self.log_file, 0)


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    running = Site(tmp_path_factory.mktemp("site"))
    try:
        running.start("up")
        until(running.answers, 60, f"the first answer: {running.log}")
        yield running
    finally:
        running.close()


@pytest.fixture
def site(started: Site, tmp_path: Path) -> Site:
    """As a StoreCue that has just been started; a start takes longer than what most tests do with it."""
    started.folder = tmp_path
    started.empty()
    return started


def told(site: Site, events: set[str]) -> None:
    """Waits until these events are stored, and sees that nothing was refused or buried."""
    until(lambda: events <= site.events().keys(), 20, f"{events} in {site.log}")
    assert site.rows("SELECT reason FROM dead_letter") == []
    assert "events.rejected" not in site.log
    assert SERVER_KEY not in site.log


ORDER = {"order_id": "1", "total": 27.5, "currency": "USD", "products": [{"product_id": "p1", "price": 19}]}


# --- servers ----------------------------------------------------------------------------------------------------------


def use(client: Any, failures: list[Any]) -> None:
    """Every call that the Python clients have."""
    client.identify("u1", {"email": "Zoë@Example.com", "createdAt": "2026-11-01T00:00:00Z"})
    client.track("u1", "Order Completed", ORDER)
    client.track(anonymous_id="a1", event="Product Viewed", properties={"product_id": "p1"})
    client.page("u1", "Home", "Docs", {"url": "https://aurora.example/"})
    client.screen("u1", "Home", "Start")
    client.group("u1", "g1", {"plan": "pro"})
    client.alias("a1", "u1")
    client.flush()
    client.shutdown()
    assert failures == []


EVERYTHING = {"Order Completed", "Product Viewed", "Page Viewed", "Screen Viewed", "Group Joined"}


@pytest.mark.parametrize("gzip", [False, True])
def test_segment_for_python(site: Site, gzip: bool) -> None:
    failures: list[Any] = []
    client = segment.analytics.client.Client(
        SERVER_KEY, host=site.address, gzip=gzip, on_error=lambda error, _: failures.append(error)
    )
    use(client, failures)
    until(lambda: site.kept("alias", "group", "identify", "page", "screen", "track", "track"), 10, "every call is kept")
    told(site, EVERYTHING)
    assert site.events()["Order Completed"]["total"] == 27.5
    assert {("customer_id", "site:u1"), ("email", "zoë@example.com"), ("anonymous_id", "a1")} <= site.identifiers()
    assert site.rows("SELECT count(DISTINCT profile_id) FROM event") == [(1,)], "the alias has made them one"


def test_segment_for_python_is_told_what_is_wrong(site: Site) -> None:
    failures: list[Any] = []
    client = segment.analytics.client.Client(
        "sk_of_somebody_else", host=site.address, max_retries=0, on_error=lambda error, _: failures.append(error)
    )
    client.track("u1", "Product Viewed")
    client.flush()
    client.shutdown()
    assert [getattr(error, "status", None) for error in failures] == [401]
    assert site.kept()


@pytest.mark.parametrize("gzip", [False, True])
def test_rudderstack_for_python(site: Site, gzip: bool) -> None:
    failures: list[Any] = []
    client = rudderstack.analytics.client.Client(
        SERVER_KEY, host=site.address, gzip=gzip, on_error=lambda error, _: failures.append(error)
    )
    use(client, failures)
    told(site, EVERYTHING)
    assert ("email", "zoë@example.com") in site.identifiers()


def test_rudderstack_for_python_is_told_what_is_wrong(site: Site) -> None:
    failures: list[Any] = []
    client = rudderstack.analytics.client.Client(
        "sk_of_somebody_else", host=site.address, max_retries=0, on_error=lambda error, _: failures.append(error)
    )
    client.track("u1", "Product Viewed")
    client.flush()
    client.shutdown()
    [error] = failures
    assert (error.status, error.code) == (401, "bad_write_key")
    assert "write key" in error.message


def test_segment_for_node(site: Site) -> None:
    run_node(
        """
        const {Analytics} = require('@segment/analytics-node')
        const [host, writeKey, order] = process.argv.slice(1)
        const client = new Analytics({writeKey, host, maxRetries: 0})
        client.on('error', error => { console.error(error); process.exitCode = 1 })
        client.identify({userId: 'u1', traits: {email: 'ada@example.com'}})
        client.track({userId: 'u1', event: 'Order Completed', properties: JSON.parse(order)})
        client.track({anonymousId: 'a1', event: 'Product Viewed', properties: {product_id: 'p1'}})
        client.page({userId: 'u1', name: 'Home'})
        client.screen({userId: 'u1', name: 'Start'})
        client.group({userId: 'u1', groupId: 'g1'})
        client.alias({previousId: 'a1', userId: 'u1'})
        client.closeAndFlush()
        """,
        site.address,
        SERVER_KEY,
        json.dumps(ORDER),
    )
    told(site, EVERYTHING)
    assert {("customer_id", "site:u1"), ("email", "ada@example.com"), ("anonymous_id", "a1")} <= site.identifiers()


@pytest.mark.parametrize("gzip", ["true", "false"])
def test_rudderstack_for_node(site: Site, gzip: str) -> None:
    run_node(
        """
        const RudderAnalytics = require('@rudderstack/rudder-sdk-node')
        const [dataPlaneUrl, key, gzip] = process.argv.slice(1)
        const client = new RudderAnalytics(key, {dataPlaneUrl, gzip: gzip === 'true', flushAt: 20})
        client.identify({userId: 'u1', traits: {email: 'ada@example.com'}})
        client.track({userId: 'u1', event: 'Product Added', properties: {product_id: 'p1', quantity: 2}})
        client.page({userId: 'u1', name: 'Home'})
        client.flush(error => { if (error) { console.error(error); process.exit(1) } process.exit(0) })
        """,
        site.address,
        SERVER_KEY,
        gzip,
    )
    told(site, {"Product Added", "Page Viewed"})
    assert ("email", "ada@example.com") in site.identifiers()


# --- browsers ---------------------------------------------------------------------------------------------------------


def page(site: Site, name: str, text: str) -> str:
    """The address of a page of the site."""
    folder = site.folder / "pages"
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"<!doctype html><title>Aurora</title><body>{text}</body>")
    return f"{site.origin}/{name}"


def test_segment_for_browsers(site: Site) -> None:
    library = modules() / "@segment/analytics-next/dist/umd"
    address = page(
        site,
        "index.html",
        f"""
        <script src="/umd/index.js"></script>
        <script>
        const client = AnalyticsNext.AnalyticsBrowser.load({{writeKey: "{BROWSER_KEY}", cdnURL: "{site.address}"}})
        client.page("Home")
        client.identify("u1", {{email: "ada@example.com", firstName: "Ada"}})
        client.track("Product Viewed", {{product_id: "p1", price: 19.5}})
        client.group("g1")
        </script>""",
    )
    shutil.copytree(library, site.folder / "pages/umd")
    with pages(site.folder / "pages", site.page_port), visiting(address, site.folder):
        until(lambda: site.kept("group", "identify", "page", "track"), 40, "every call is kept")
        told(site, {"Page Viewed", "Product Viewed", "Group Joined"})
    viewed = site.events()["Product Viewed"]
    assert (viewed["product_id"], viewed["price"], viewed["page_url"]) == ("p1", 19.5, address)
    assert {kind for kind, _ in site.identifiers()} == {"customer_id", "email", "anonymous_id"}
    headers = [json.loads(found) for (found,) in site.rows("SELECT headers FROM delivery", "inbox")]
    assert headers == [{"trust": "browser"}] * 4


def source(site: Site, name: str, key: str) -> SourceConfig:
    return SourceConfig(name, "segment_api", ("x",), BrowserConfig((key,), ("*",)))


def test_the_snippet(site: Site) -> None:
    """The page goes away while events wait: they leave by sendBeacon."""
    page(site, "next.html", "gone")
    address = page(
        site,
        "index.html",
        snippet.tag(source(site, "site", BROWSER_KEY), site.address)
        + """
        <script>
        storecue.consent(true);
        storecue.identify({email: "ada@example.com", firstName: "Ada"});
        storecue.feedback(4, "Delivery was quick.");
        setTimeout(() => { storecue.track("Product Viewed", {product_id: "p1"}); location.href = "/next.html" }, 1500);
        </script>""",
    )
    with pages(site.folder / "pages", site.page_port), visiting(f"{address}?utm_source=mail&token=1", site.folder):
        told(site, {"Page Viewed", "Feedback Given", "Product Viewed", "Page Left"})
    found = site.events()
    assert (found["Feedback Given"]["rating"], found["Feedback Given"]["comment"]) == (4, "Delivery was quick.")
    assert (found["Page Viewed"]["url"], found["Page Viewed"]["utm_source"]) == (address, "mail")
    assert found["Page Left"]["seconds"] in (1, 2, 3, 4)
    assert found["Page Left"]["path"] == "/index.html"
    assert ("email", "ada@example.com") in site.identifiers()
    bodies = b"".join(unpack(body) for (body,) in site.rows("SELECT body FROM delivery", "inbox"))
    assert b"token=1" not in bodies, "what follows the ? may be anybody's secret"


def test_the_snippet_sends_nothing_before_consent_and_after_a_refusal(site: Site) -> None:
    address = page(
        site,
        "index.html",
        snippet.tag(source(site, "site", BROWSER_KEY), site.address)
        + """
        <script>
        storecue.track("Product Viewed", {product_id: "before"});
        setTimeout(() => { storecue.consent(false); storecue.track("Product Viewed", {product_id: "refused"}) }, 500);
        setTimeout(() => fetch("/done.html"), 1500);
        </script>""",
    )
    with pages(site.folder / "pages", site.page_port) as asked, visiting(address, site.folder):
        until(lambda: "/done.html" in asked, 30, "the page is done")
    assert site.kept()


def test_the_custom_pixel_in_the_sandbox_that_the_shop_gives_it(site: Site) -> None:
    """In an iframe without an origin, as Shopify's lax sandbox is one."""
    code = snippet.pixel(source(site, "forwarded", "wk_forwarded"), site.address)
    variant = {"id": "42", "title": "Blue", "price": {"amount": 19.5, "currencyCode": "USD"}, "untranslatedTitle": "x"}
    variant["product"] = {"id": "7", "title": "Mug", "vendor": "Aurora", "type": "Kitchen", "url": "/products/mug"}
    checkout = {"token": "t1", "email": "ada@example.com", "totalPrice": {"amount": 19.5, "currencyCode": "USD"}}
    happened = [
        ("product_viewed", {"productVariant": variant}),
        ("product_added_to_cart", {"cartLine": {"quantity": 2, "merchandise": variant}}),
        ("cart_viewed", {"cart": {"id": "gid://shopify/Cart/c1?key=k", "lines": [], "cost": {"totalAmount": None}}}),
        ("search_submitted", {"searchResult": {"query": "mugs", "productVariants": [variant] * 500}}),
        ("collection_viewed", {"collection": {"id": "9", "title": "Mugs", "productVariants": [variant] * 500}}),
        ("checkout_started", {"checkout": {**checkout, "lineItems": [{"quantity": 1, "variant": variant}] * 200}}),
        ("checkout_completed", {"checkout": {**checkout, "order": {"id": "1001", "customer": {"id": "501"}}}}),
        ("page_viewed", {}),
    ]
    shop = f"""
        const allows = (marketingAllowed) => ({{marketingAllowed, analyticsProcessingAllowed: true}});
        const init = {{data: {{customer: null}}, customerPrivacy: allows(false)}};
        const listening = {{}}; let allow;
        const analytics = {{subscribe: (name, call) => {{ listening[name] = call }}}};
        const api = {{customerPrivacy: {{subscribe: (_, call) => {{ allow = call }}}}}};
        {code}
        const tell = (prefix) => {json.dumps(happened)}.forEach(([name, data], n) => listening[name](
            {{id: prefix + n, clientId: "visitor-1", name, timestamp: new Date().toISOString(), data}}));
        tell("refused-");
        allow({{customerPrivacy: allows(true)}});
        tell("allowed-");
    """
    (site.folder / "pages").mkdir()
    (site.folder / "pages/pixel.html").write_text(f"<!doctype html><script>{shop}</script>")
    address = page(site, "index.html", '<iframe sandbox="allow-scripts allow-forms" src="/pixel.html"></iframe>')
    with pages(site.folder / "pages", site.page_port), visiting(address, site.folder):
        until(lambda: site.kept(*["pixel"] * len(happened)), 30, f"every event is kept: {site.log}")
        told(
            site,
            {
                "Product Viewed",
                "Product Added",
                "Cart Viewed",
                "Products Searched",
                "Product List Viewed",
                "Checkout Started",
            },
        )
    assert {id_ for (id_,) in site.rows("SELECT id FROM event WHERE name = 'Checkout Started'")} == {
        "shopify:shop:checkout:t1:started"
    }
    tied = site.identifiers() - {("cart_token", "c1")}  # which counts when it came before the address did
    found = {("email", "ada@example.com"), ("checkout_token", "t1"), ("anonymous_id", "visitor-1")}
    assert tied == found, "whose customer she is, the shop will say"
    assert site.events()["Product Viewed"]["brand"] == "Aurora"
