-- The database `dagster` is made by the image; MLflow and the studies keep their own.
CREATE DATABASE mlflow OWNER trading;
CREATE DATABASE optuna OWNER trading;
