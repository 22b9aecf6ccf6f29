"""The latency meter: of each stage of a request in this process, or of an endpoint under a load that does not wait."""
