"""Bytes in, bytes out: no I/O, no clock, no Django, no asyncio."""
