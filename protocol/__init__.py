"""What crosses a boundary: jobs, rosters, signatures, messages, tensors, errors, configuration."""
