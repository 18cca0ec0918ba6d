"""What only the book needs: plans, curves, statistics, verdicts, figures."""
