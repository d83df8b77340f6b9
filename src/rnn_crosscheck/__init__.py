"""The same recurrent classifiers in several frameworks: what differs, by how much, and why.

The rooms are `harness` (datasets, protocol, contract, workers, the pytest side), `backends` (one file a framework) and
`reports` (from results on disk to Markdown). Importing this package imports none of them.
"""
