"""What is protected: differential privacy, its ledger, masks and encryption."""
