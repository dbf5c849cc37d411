"""The login behind a connection, and whether it is still valid."""
