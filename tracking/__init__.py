"""What happened: the ledger, MLflow, and the meters."""
