"""Wireless ranging: simulated channel responses, classical estimators, and their bounds."""
