"""The engines that train a trial, behind one protocol: see ``recipes.engines.protocol``."""
