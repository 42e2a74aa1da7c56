"""/docs and /redoc, from assets that ship with the package: they work with no internet."""

from importlib import resources

from starlette.responses import Response

from aitbc.coordinator.api.native.dialect import NATIVE
from aitbc.coordinator.api.plumbing.routing import Router
from aitbc.coordinator.errors import NotFound

router = Router(NATIVE, include_in_schema=False)

_FOLDERS = {"swagger-ui": resources.files("aitbc.coordinator.api") / "assets" / "swagger-ui"}
_FOLDERS["redoc"] = resources.files("aitbc.coordinator.api") / "assets" / "redoc"
_TYPES = {
    "swagger-ui.css": ("swagger-ui", "text/css; charset=utf-8"),
    "swagger-ui-bundle.js": ("swagger-ui", "text/javascript; charset=utf-8"),
    "favicon-32x32.png": ("swagger-ui", "image/png"),
    "redoc.standalone.js": ("redoc", "text/javascript; charset=utf-8"),
}

# Nothing may come from elsewhere: redoc would fetch a logo, swagger-ui a validator's badge.
_POLICY = (
    "default-src 'none'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; font-src 'self' data:; connect-src 'self'; worker-src blob:; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)

# Addresses are relative, so that the pages also work behind a proxy under any prefix.
_SWAGGER = b"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>AITBC API</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" type="image/png" href="docs/assets/favicon-32x32.png">
<link rel="stylesheet" href="docs/assets/swagger-ui.css"></head>
<body><div id="swagger-ui"></div>
<script src="docs/assets/swagger-ui-bundle.js"></script>
<script>SwaggerUIBundle({url: "openapi.json", dom_id: "#swagger-ui", deepLinking: true,
persistAuthorization: true, validatorUrl: null});</script>
</body></html>
"""
_REDOC = b"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>AITBC API</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" type="image/png" href="docs/assets/favicon-32x32.png">
<style>body{margin:0} img[src^="https:"]{display:none}</style></head>
<body><redoc spec-url="openapi.json" disable-search="false"></redoc>
<script src="docs/assets/redoc.standalone.js"></script>
</body></html>
"""


def _page(body: bytes) -> Response:
    return Response(body, headers={"Content-Security-Policy": _POLICY}, media_type="text/html; charset=utf-8")


@router.get("/docs")
async def swagger_ui() -> Response:
    """The API as pages to try it out on."""
    return _page(_SWAGGER)


@router.get("/redoc")
async def redoc() -> Response:
    """The API as pages to read."""
    return _page(_REDOC)


@router.get("/docs/assets/{name}")
async def asset(name: str) -> Response:
    """One file of those pages."""
    known = _TYPES.get(name)
    if known is None:
        raise NotFound()
    folder, media_type = known
    return Response(
        (_FOLDERS[folder] / name).read_bytes(),
        headers={"Cache-Control": "public, max-age=86400"},
        media_type=media_type,
    )
