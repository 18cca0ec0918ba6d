"""Which layers of a model take a gate: found by following the calls of a forward pass."""
