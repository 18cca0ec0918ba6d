"""Gates past the paper's: without bounds, closing the features, and told the channel's state."""
