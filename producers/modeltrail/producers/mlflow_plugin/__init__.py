"""An MLflow plugin: unmodified scripts log through Modeltrail's producers.

    export MLFLOW_TRACKING_URI=modeltrail+kafka://broker:9092/prefix
    export MLFLOW_TRACKING_URI=modeltrail+file:./modeltrail-data
    export MLFLOW_TRACKING_URI=modeltrail+http://server:5000

Everything that a script logs goes to the buffer and the outbox of its own process, so no call waits
for the log or fails because it is away. Reads go to a server if there is one, and otherwise are
answered from what this process logged.

MLflow finds the plugin by the entry points in pyproject.toml. Nothing else imports it, and MLflow
is not a dependency.
"""
