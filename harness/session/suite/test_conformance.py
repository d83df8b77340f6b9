"""What ``pytest --benchmark --crosscheck-conformance NAME`` runs: one test a check of `harness.conformance.checks`."""

from __future__ import annotations

import pytest

from rnn_crosscheck.harness.conformance.trial import Check
from rnn_crosscheck.harness.session.conformance import ConformanceSession

pytestmark = [pytest.mark.timeout(0)]  # a check that hangs is stopped by the session


def test_conforms(conformance: ConformanceSession, check: Check) -> None:
    """The backend does what the check asks for."""
    verdict = conformance.verdict(check)
    if verdict.told:
        pytest.skip("for the same reason as one above")
    if verdict.todo:
        pytest.fail(f"To be written: {verdict.todo}", pytrace=False)
    if verdict.problem:
        pytest.fail(f"{check.question}\n{verdict.problem}", pytrace=False)
