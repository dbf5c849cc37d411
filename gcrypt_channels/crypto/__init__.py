"""Floor 1: bytes in, bytes out. No I/O, no clock, no Django, no asyncio."""
