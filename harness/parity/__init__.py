"""What a model should compute: the float64 reference, the stages held against it, traces, words left out.

It knows the contract, the protocol, the datasets and the records; never a worker.
"""
