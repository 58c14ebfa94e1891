"""Learning from reviewers: what they made of our predictions, kept, learned from, and served as new versions."""
