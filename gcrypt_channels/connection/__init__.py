"""One encrypted WebSocket between its ASGI server and its application."""
