"""From what is asked for to results on disk: choosing backends, planning, finding what is there, carrying out.

It knows the records and the contract; it starts workers and never imports them.
"""
