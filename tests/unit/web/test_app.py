import base64
import hmac
import json
import subprocess
import sys

from populated import NOW, TOKEN

import connector
from connector.app import create_app
from connector.clock import isoformat
from connector.web.current import of


def test_the_factory_is_the_packages_own(shop):
    assert connector.create_app is create_app
    app = connector.create_app(services=shop.services)
    answer = app.test_client().get("/api/v1/status", headers={"Authorization": f"Bearer {TOKEN}"}).get_json()
    assert answer["at"] > "2026"  # the machine's clock, when no other is given
    of(app).metrics.close()


def test_the_environment_is_all_that_a_wsgi_server_needs(tmp_path):
    program = """
import json, sys
from werkzeug.test import Client
from connector import create_app
app = create_app()
answer = Client(app).get("/readyz")
heavy = sorted({"alembic", "jsonschema", "phonenumbers", "granian"} & set(sys.modules))
print(json.dumps({"status": answer.status_code, "heavy": heavy}))
"""
    environ = {"STORECUE_DATA": str(tmp_path / "data"), "STORECUE_LOG_FORMAT": "json"}
    done = subprocess.run([sys.executable, "-c", program], env=environ, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == {"status": 200, "heavy": []}
    assert done.stderr == ""


def test_a_delivery_that_arrives_is_seen_by_the_api(shop, monkeypatch):
    monkeypatch.setenv("SHOP_SECRET", "of the quay")
    body = b'{"id": 450789471, "customer": {"id": 207119551}}'
    signature = base64.b64encode(hmac.new(b"of the quay", body, "sha256").digest()).decode()
    headers = {
        "Content-Type": "application/json",
        "X-Shopify-Topic": "orders/create",
        "X-Shopify-Hmac-Sha256": signature,
        "X-Shopify-Webhook-Id": "d-5",
        "X-Shopify-Shop-Domain": "quay-lane.myshopify.com",
    }
    assert shop.http.post("/webhooks/shopify/shop", data=body, headers=headers).status_code == 200
    refused = shop.http.post("/webhooks/shopify/shop", data=body + b" ", headers=headers)
    assert (refused.status_code, refused.content_type) == (401, "application/problem+json")
    assert shop.http.post("/webhooks/shopify/none", data=b"{}").status_code == 404
    newest = shop.api.get("/deliveries", limit=1)["items"][0]
    assert (newest["topic"], newest["state"], newest["received_at"]) == ("orders/create", "queued", isoformat(NOW))
    assert shop.api.get(f"/deliveries/{newest['id']}")["body"] == body.decode()
    reason = refused.get_json(force=True)["reason"]
    assert shop.api.get("/sources/shop")["rejected"] == {reason: 1}
