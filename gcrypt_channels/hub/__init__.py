"""The live connections of one process, and what is done for all of them."""
