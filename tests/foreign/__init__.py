"""Other people's test suites, unedited, from their own releases: once plain and once encrypted.

    python -m tests.foreign [SUITE…]

`suites.json` pins each release, `differences.json` lists what is expected to differ behind the
encryption, with reasons. Everything else that fails is red, and so is a listed test that passes.
A suite whose archive cannot be had is "not run", which is neither.
"""
