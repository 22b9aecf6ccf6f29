"""Retrieval: what an answer finds in a catalogue, how right that is, and how long it takes."""

from tracking.meters.retrieval.pipeline import GOLD, HYDE, NDCG, RAW, SCORE, ShoppingPipeline, open_pipeline
from tracking.meters.retrieval.stages import SearchStages

__all__ = ["GOLD", "HYDE", "NDCG", "RAW", "SCORE", "SearchStages", "ShoppingPipeline", "open_pipeline"]
