"""The page to browse examples: one file that is opened from the disk, made of a template, a script and a style sheet.

`data.py` says what the page knows; `build.py` puts it together with the three files beside it.
"""

from rnn_crosscheck.reports.pages.browse.build import PAGE, TEXTS, is_there, write

__all__ = ["PAGE", "TEXTS", "is_there", "write"]
