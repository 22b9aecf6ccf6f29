"""What a shopping pipeline is given: catalogues, labels, what shoppers bought, and importers of public data sets."""
