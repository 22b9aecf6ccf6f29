"""What to try: the sweep YAML, the search space, the plan. Imports neither torch nor Ray."""
