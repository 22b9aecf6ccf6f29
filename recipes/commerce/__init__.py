"""The demo: a shop, a shopping assistant's task, and the small base model that learns it."""
