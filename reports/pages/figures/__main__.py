"""The process that draws: see `Drawing`."""

from rnn_crosscheck.reports.pages.figures import answer

answer()
