"""What the contract asks of a backend, one check for each thing; and the files with which a backend begins.

It knows the contract and the reference; never how checks are started.
"""
