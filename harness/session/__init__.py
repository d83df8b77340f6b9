"""The pytest side: options are read, tests collected, the comparison carried out, the end told.

It stands on top of the harness and knows all of it.
"""
