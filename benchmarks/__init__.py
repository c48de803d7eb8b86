"""What a call costs, as ratios to a hand-written loop over plain dicts: ``python -m benchmarks``; see README.md."""
