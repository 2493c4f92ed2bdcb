"""How contributions become the next model."""
