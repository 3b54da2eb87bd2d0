"""The headers every answer carries: nothing may be framed, sniffed, cached or loaded from elsewhere."""

from flask import Flask, Response

_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cache-Control": "no-store",
}
_ONE_YEAR = "max-age=31536000"


def install(app: Flask, public_url: str) -> None:
    """Add the headers to every answer of `app`; HSTS when the public URL is https."""
    headers = dict(_HEADERS)
    if public_url.startswith("https:"):
        headers["Strict-Transport-Security"] = _ONE_YEAR

    @app.after_request
    def _add(response: Response) -> Response:
        for name, value in headers.items():
            response.headers.setdefault(name, value)
        return response
