"""Which worker is measured after which in a round, and on which core."""

from __future__ import annotations

import os


def balanced_orders(n: int) -> tuple[tuple[int, ...], ...]:
    """Orders of n workers in which each has every place, and every other before it, equally often.

    What ran before leaves caches, clock rates and threads that still spin, so places alone are not enough: in A B C,
    B C A, C A B it is nearly always A before B. (Williams, 1949: n orders for an even n, twice as many for an odd one.)
    """
    first = [0]
    for step in range(1, n):
        first.append((first[-1] + (step if step % 2 else -step)) % n)
    orders = [tuple((place + shift) % n for place in first) for shift in range(n)]
    if n % 2:
        orders += [tuple(reversed(order)) for order in orders]
    return tuple(orders)


def cores_in_turn(start: int) -> list[int]:
    """List the cores to keep to, the first of them for the threads of a worker; another one first at each start.

    Two workers on two cores would be told apart by whatever else runs on these. Empty where cores can't be chosen.
    """
    if not hasattr(os, "sched_getaffinity"):
        return []
    cores = sorted(os.sched_getaffinity(0))
    first = start % len(cores)
    return cores[first:] + cores[:first]
