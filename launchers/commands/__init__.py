"""The commands of ``podium``, by what they are for."""
