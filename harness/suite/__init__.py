"""The tests that ``pytest --benchmark`` runs."""
