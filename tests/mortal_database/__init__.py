"""A database engine for the tests: SQLite whose connections die, and are asked whether they live.

Django never asks its own SQLite engine, because a file does not go away; here it is asked as
PostgreSQL is.
"""
