"""What is refused because it would train or answer wrongly without a word."""
