-- The database `dagster` is made by the image; MLflow keeps its own.
CREATE DATABASE mlflow OWNER trading;
