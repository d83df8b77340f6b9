"""A plugin for pytest under which reports are built as soon as there is something to read."""

from rnn_crosscheck.harness.session import comparison

comparison._SOON = comparison._REST = 0.0
