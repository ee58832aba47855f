"""The training loop: learner, state, records and export."""
