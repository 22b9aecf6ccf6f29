"""The meters: what an adapter's answers are worth, how long they take and what they cost."""
