"""One file per framework, each importing its framework only when it is asked to create a model.

Backends are found by name through the entry points of the group ``rnn_crosscheck.backends``; the built-in
ones are listed in ``pyproject.toml`` like anybody's.
"""
