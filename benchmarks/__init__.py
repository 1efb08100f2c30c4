"""Measurements beside what else could be used: `python -m benchmarks` runs all, `python -m benchmarks NAME` one."""
