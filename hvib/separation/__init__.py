"""Source coding and channel coding apart, the classical way that a learned system is held to."""
