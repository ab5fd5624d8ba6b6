"""Throughput, latency and cost of the product, side by side with what a user would pick instead."""
