"""Reconciliation: every difference between what a system holds, what the hub knows and what a party is entitled to, and its repair."""
