"""The process that trains, one for each run or check: ``python -m rnn_crosscheck.harness.worker``.

It answers one request, and knows everything below it; nothing imports it.
"""
