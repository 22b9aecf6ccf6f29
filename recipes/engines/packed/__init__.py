"""The ``packed`` engine: many LoRA trials of one frozen base in one process, exactly, in plain torch and transformers.

Read in this order: ``pack`` (trials join, advance, leave), ``chunk`` (some of them in one forward pass), ``network``
(the base and its hooks), ``linear``, ``tree`` and ``attention``, ``loss``, ``optimizer``, ``state`` (a trial's own),
``planner`` (how many trials go together), ``decode`` (answers of many adapters at once).
"""
