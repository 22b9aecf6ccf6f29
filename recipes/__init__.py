"""How one trial trains: recipes, data, base models, engines. Imports no Ray and no MLflow."""
