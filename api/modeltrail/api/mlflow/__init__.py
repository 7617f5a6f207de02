"""MLflow's REST API, for unmodified clients."""
