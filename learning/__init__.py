"""What is learnt: tasks, training, evaluation and finished models."""
