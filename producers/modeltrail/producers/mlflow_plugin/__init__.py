"""A plugin of MLflow: unmodified scripts log through Modeltrail's producers.

    export MLFLOW_TRACKING_URI=modeltrail+kafka://broker:9092/prefix
    export MLFLOW_TRACKING_URI=modeltrail+file:./modeltrail-data
    export MLFLOW_TRACKING_URI=modeltrail+http://server:5000

What a script logs goes into the buffer and the outbox of its own process: no call waits for the
log, or fails because it is away. What it reads comes from a server, where there is one, else from
what this process logged itself.

MLflow finds the parts by the entry points in pyproject.toml. Nothing else imports them, and MLflow
is no dependency.
"""
