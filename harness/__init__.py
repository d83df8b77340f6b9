"""What every backend shares: datasets, protocol, contract, workers, results and the pytest plugin.

Nothing in this package imports a deep-learning framework.
"""
