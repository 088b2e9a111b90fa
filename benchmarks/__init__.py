"""Benchmarks that a sceptic can rerun: ratios measured side by side in one run, never absolute promises."""
