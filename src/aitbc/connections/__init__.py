"""uvicorn within limits: what strangers may take of a server before anybody knows who they are."""
