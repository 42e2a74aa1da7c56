"""What goes in and out over HTTP, as the OpenAPI document shows it."""
